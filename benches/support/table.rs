//! What a bench prints: a figure, the bound that it must keep, and whether it does.

use std::process::ExitCode;

/// Figures beside their bounds.
#[derive(Debug, Default)]
pub(crate) struct Table {
    broken: bool,
}

impl Table {
    pub(crate) fn titled(title: &str) -> Self {
        println!("\n{title}");
        Self::default()
    }

    /// A figure that must not be above `bound`.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, unit: &str, bound: f64, how: &str) {
        let kept = figure <= bound;
        self.broken |= !kept;
        let verdict = if kept { "ok" } else { "MISSED" };
        println!("  {what:<26} {figure:>9.2} {unit:<6} <= {bound:<6} {verdict:<7} {how}");
    }

    /// Fails only when asked to: `cargo bench -- --check`.
    pub(crate) fn verdict(&self) -> ExitCode {
        let check = std::env::args().any(|argument| argument == "--check");
        ExitCode::from(u8::from(check && self.broken))
    }
}

/// The middle one: noise on a shared machine makes outliers, in either direction.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

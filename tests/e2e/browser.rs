//! The page in a real browser: what it shows, and that nothing sticks out of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::demo::{Estate, Says};
use crate::program::{PATIENCE, installed};
use crate::support::watchpost::{Watchpost, get};

/// Set this variable to a folder to keep the pictures.
const KEEP: &str = "SCREENSHOTS";
/// The first bytes of a picture.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    fn find() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        installed("chromium").map(|program| Self { program, profile })
    }

    /// Opens a page of a window of this size.
    fn open(&self, url: &str, (width, height): (u32, u32), arguments: &[&str]) -> String {
        let profile = tempfile::tempdir_in(self.profile.path()).unwrap();
        let output = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .args(arguments)
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn picture(&self, url: &str, name: &str, arguments: &[&str]) -> usize {
        let kept = std::env::var_os(KEEP).map(PathBuf::from);
        let file = kept.unwrap_or_else(|| self.profile.path().to_owned()).join(name);
        let option = format!("--screenshot={}", file.display());
        let arguments: Vec<&str> = arguments.iter().copied().chain([option.as_str()]).collect();
        self.open(url, (1280, 3600), &arguments);
        let picture = fs::read(&file).unwrap();
        assert!(picture.starts_with(PNG), "{name} is no picture");
        picture.len()
    }

    /// How wide the page is and how wide the window, in pixels.
    ///
    /// The policy of the page allows no script, so that a copy of it is measured.
    fn widths(&self, html: &str, window: u32, folder: &Path) -> (u32, u32) {
        let numbers =
            "`${document.documentElement.scrollWidth} of ${document.documentElement.clientWidth} `";
        let numbers = self.measure(html, numbers, window, folder);
        (numbers[0], numbers[1])
    }

    /// How many sections and cells do not show all that is in them.
    fn cut(&self, html: &str, window: u32, folder: &Path) -> u32 {
        let count = "[...document.querySelectorAll('td,section')]\
                     .filter(it => it.scrollWidth > it.clientWidth + 1).length + ' '";
        self.measure(html, count, window, folder)[0]
    }

    /// The numbers in a text that a script makes.
    fn measure(&self, html: &str, text: &str, window: u32, folder: &Path) -> Vec<u32> {
        let script = format!("<script>document.title = 'width ' + {text}</script>");
        let copy = folder.join("copy.html");
        fs::write(&copy, html.replace("</body>", &format!("{script}</body>"))).unwrap();
        let url = format!("file://{}", copy.display());
        let dom = self.open(&url, (window, 900), &["--dump-dom"]);
        let title = dom.split("<title>width ").nth(1).unwrap_or_else(|| panic!("{dom}"));
        title.split(' ').filter_map(|word| word.parse().ok()).collect()
    }
}

/// Waits until every check has run.
async fn settled(watchpost: &Watchpost, checks: usize) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = get(&watchpost.url("/metrics")).await.1;
        let known = |line: &&str| line.starts_with("probe_success{");
        if metrics.lines().filter(known).count() == checks {
            return get(&watchpost.url("/")).await.1;
        }
        assert!(Instant::now() < end, "not every check ran\n{}", watchpost.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The rows of the page, as the browser built them.
fn rows(dom: &str) -> Vec<&str> {
    dom.split("<tr>").skip(1).filter_map(|rest| rest.split("</tr>").next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_trouble_with_its_reason() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let estate = Estate::start(folder.path()).await.unwrap();
    let watchpost = Watchpost::start(&estate.config());
    settled(&watchpost, estate.scenarios().len() + 1).await;
    let url = watchpost.url("/");
    let dom = browser.open(&url, (1280, 900), &["--dump-dom"]);
    let rows = rows(&dom);
    for scenario in estate.scenarios() {
        let (status, reason) = match scenario.says {
            Says::Up => ("up", ""),
            Says::Degraded(reason, _) => ("degraded", reason),
            Says::Down(reason, _) => ("down", reason),
        };
        let incident = format!("incident={}<", scenario.incident);
        let target = scenario.target.replace('&', "&amp;");
        // One target may stand in two probes.
        let mut shown = rows.iter().filter(|row| row.contains(&target) && row.contains(&incident));
        let (status, reason) = (format!(">{status}<"), format!("<b>{reason}</b>"));
        let right = shown.clone().any(|row| row.contains(&status) && row.contains(&reason));
        assert!(right, "{scenario:?}: {:?}", shown.next());
    }
    // Within a probe trouble comes first, and probes that are down before those that are up.
    let first_up = dom.find("<h2><span class=\"pill up\"").unwrap();
    let last_down = dom.rfind("<h2><span class=\"pill down\"").unwrap();
    assert!(last_down < first_up);
    assert!(browser.picture(&url, "light.png", &[]) > 10_000);
    let dark = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"];
    assert!(browser.picture(&url, "dark.png", &dark) > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_targets_do_not_widen_the_page() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("watchpost.yml");
    let long = "a".repeat(600);
    let text = format!(
        "modules: {{ m: {{ prober: http, timeout: 1s }} }}\n\
         probes:\n  - name: '{}'\n    module: m\n    interval: 2s\n    targets:\n\
         \x20     - {{ target: 'http://127.0.0.1:1/{long}', labels: {{ note: '{long}' }} }}\n\
         \x20     - 'http://{}.invalid-{long}:1/'\n",
        "n".repeat(200),
        "b".repeat(63),
    );
    fs::write(&config, text).unwrap();
    let watchpost = Watchpost::start(&config);
    let html = settled(&watchpost, 2).await;
    for window in [1280, 1100, 1000, 800, 700, 500] {
        let (page, view) = browser.widths(&html, window, folder.path());
        assert!(page <= view, "the page is {page} pixels wide in a window of {view}");
        assert_eq!(browser.cut(&html, window, folder.path()), 0, "cut off at {window}");
    }
    // The measure measures.
    let broad = "<!doctype html><title>x</title><body><p style=\"width:5000px\">x</p></body>";
    let (page, view) = browser.widths(broad, 700, folder.path());
    assert!(page > view);
}

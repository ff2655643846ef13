//! How a release is linked: as one static file, its functions in the order of `function-order.ld`, its relocations in their
//! short form. docs/performance.md says what that is worth. A platform that lacks one of them goes without it, and so does a
//! linker that somebody chose; `WATCHPOST_FUNCTION_ORDER=none` leaves the order out.

use std::env;
use std::path::Path;
use std::process::Command;

/// The C library that applies relative relocations in their short form (`DT_RELR`): 2.36.
const RELR_MINOR: u32 = 36;

fn main() {
    for file in ["build.rs", "function-order.ld", "scripts/link-static"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=WATCHPOST_FUNCTION_ORDER");
    println!("cargo:rustc-check-cfg=cfg(linked_static)");
    if variable("PROFILE") != "release" || variable("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let usual_linker = variable("RUSTC_LINKER").is_empty()
        && !["linker", "fuse-ld"]
            .iter()
            .any(|word| variable("CARGO_ENCODED_RUSTFLAGS").contains(word));
    let alone = is_static();
    if alone {
        // `scripts/link-static` looks for it: only a flag of the compiler's makes a static program.
        println!("cargo:rustc-cfg=linked_static");
    }
    if usual_linker && alone && libc_minor().is_some_and(|minor| minor >= RELR_MINOR) {
        println!("cargo:rustc-link-arg-bin=watchpost=-Wl,-z,pack-relative-relocs");
    }
    let wanted = variable("WATCHPOST_FUNCTION_ORDER") != "none";
    if usual_linker && wanted && variable("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        let order = Path::new(&variable("CARGO_MANIFEST_DIR")).join("function-order.ld");
        println!("cargo:rustc-link-arg-bin=watchpost=-Wl,-T,{}", order.display());
    }
}

#[expect(clippy::disallowed_methods, reason = "cargo speaks to a build script by its environment")]
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Whether the compiler will be asked for a static program, and the C library is there as an archive.
fn is_static() -> bool {
    let asked = variable("RUSTC_WORKSPACE_WRAPPER").ends_with("scripts/link-static");
    let native = variable("HOST") == variable("TARGET");
    asked
        && native
        && first_line("cc", &["-print-file-name=libc.a"])
            .is_some_and(|p| Path::new(&p).is_absolute())
}

fn libc_minor() -> Option<u32> {
    let version = first_line("getconf", &["GNU_LIBC_VERSION"])?;
    version.strip_prefix("glibc 2.")?.split('.').next()?.parse().ok()
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned())
}

//! What tests share: a host of their own, a registry, and the tiers this machine can run.

pub(crate) mod depot;
pub(crate) mod host;
pub(crate) mod ordinary;
pub(crate) mod peers;
pub(crate) mod private;
pub(crate) mod pty;
pub(crate) mod registry;
pub(crate) mod rogue;
pub(crate) mod tar;

/// A static program of many names, as Debian's `busybox-static` has it.
pub(crate) fn program() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox-static is installed")
}

/// Whether the tier can run here. Where `REQUIRE_TIERS` names it, its absence is a failure instead of a skip.
pub(crate) fn tier(name: &str) -> bool {
    let there = match name {
        "root" => is_root(),
        "net" => is_root() && nftables(),
        "rootless" => is_root() && ordinary::available(ordinary::ALONE),
        "pasta" => {
            is_root()
                && ordinary::available(ordinary::ALONE)
                && std::path::Path::new("/usr/bin/pasta").exists()
        }
        "subids" => is_root() && ordinary::available(ordinary::WITH_RANGES),
        "registry" => registry::available(),
        "umoci" => std::path::Path::new("/usr/bin/umoci").exists(),
        "programs" => crate::executor::wasm_programs::folder().is_dir(),
        "slim" => is_root() && std::env::var_os("UMIAK_SLIM").is_some(),
        "services" => crate::network::services::folder().is_dir(),
        "docker" => is_root() && peers::docker(),
        "podman" => is_root() && peers::podman(),
        "runtimes" => {
            ["/usr/sbin/runc", "/usr/bin/crun"].iter().all(|path| std::path::Path::new(path).exists())
        }
        other => panic!("unknown tier `{other}`"),
    };
    let required = std::env::var("REQUIRE_TIERS").unwrap_or_default().split(',').any(|t| t == name);
    assert!(there || !required, "tier `{name}` is required and cannot run here");
    there
}

/// Network namespaces and nftables can be had.
fn nftables() -> bool {
    let script = "nft add table inet umiak-test";
    std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .output()
        .is_ok_and(|out| out.status.success())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// Returns from the test, saying why, where a tier cannot run.
macro_rules! require {
    ($($tier:ident),+) => {
        $(if !crate::support::tier(stringify!($tier)) {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "skipped: no tier `{}` here", stringify!($tier));
            return;
        })+
    };
}
pub(crate) use require;

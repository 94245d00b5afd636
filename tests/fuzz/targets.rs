//! What is fuzzed: each target's seeds, what its format knows, and what no input may do. A target panics where one does harm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use umiak::engine::archive::Source;
use umiak::engine::progress::Silent;
use umiak::engine::{Engine, Options};
use umiak::model::{Digest, Image, LayerKind};
use umiak::reference::Reference;
use umiak::registry::credentials::Keychain;
use umiak::registry::{Challenge, challenge, document, entries, image_from, media_type};
use umiak::store::layer::unpack_files;
use umiak::store::{Limits, Store};

use crate::script::{self, BETWEEN, mend_tar};

#[path = "../it/support/tar.rs"]
mod tar;
use tar::{Entry, archive, device, dir, file, hard_link, symlink};

/// Takes inputs, one after the other.
pub type Run = Box<dyn FnMut(&[u8])>;

/// One thing that is fuzzed.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What its format knows.
    pub words: &'static [&'static str],
    /// Makes a changed input hold together.
    pub mend: fn(&mut Vec<u8>),
    /// Gets ready, in an empty folder.
    pub open: fn(&Path) -> Run,
    /// Inputs to begin with: good ones, hostile ones, and those that did harm once.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: &[Target] = &[
    Target {
        name: "reference",
        words: REFERENCE,
        mend: as_it_is,
        open: |_| Box::new(reference),
        seeds: references,
    },
    Target {
        name: "manifest",
        words: DOCUMENTS,
        mend: as_it_is,
        open: |_| Box::new(manifest),
        seeds: manifests,
    },
    Target { name: "image", words: DOCUMENTS, mend: as_it_is, open: |_| Box::new(image), seeds: images },
    Target {
        name: "challenge",
        words: CHALLENGE,
        mend: as_it_is,
        open: |_| Box::new(header),
        seeds: headers,
    },
    Target {
        name: "credentials",
        words: CREDENTIALS,
        mend: as_it_is,
        open: credentials,
        seeds: credential_files,
    },
    Target { name: "layer", words: TAR, mend: |bytes| mend_tar(bytes), open: layer, seeds: layers },
    Target { name: "files", words: TAR, mend: |bytes| mend_tar(bytes), open: files, seeds: layers },
    Target { name: "load", words: DOCUMENTS, mend: as_it_is, open: load, seeds: archives },
];

fn as_it_is(_: &mut Vec<u8>) {}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

// --- names ------------------------------------------------------------------------------------------------------------

const HEX: &str = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
const REFERENCE: &[&str] = &[
    "docker.io",
    "library/",
    "localhost",
    ":5000",
    "[::1]",
    "@sha256:",
    HEX,
    ":latest",
    "/",
    "..",
    "index.docker.io",
    "xn--",
    "__",
    "-",
];

fn references() -> Vec<Vec<u8>> {
    let pinned = format!("registry.lan:5000/a/b:1.0@sha256:{HEX}");
    texts(&[
        "busybox",
        "docker.io/library/ubuntu:14.04",
        "localhost/x",
        "[::1]:5000/x:y",
        "../../etc",
        "a:../x",
        "A/b",
        &pinned,
    ])
}

fn reference(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(name) = text.parse::<Reference>() else { return };
    for shown in [name.to_string(), name.canonical()] {
        assert_eq!(shown.parse::<Reference>().as_ref(), Ok(&name), "{text:?} is shown as {shown:?}");
    }
    // Both become parts of URLs and of paths at a registry.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:[]".contains(c);
    assert!(name.registry().chars().all(plain) && !name.registry().contains('/'), "{name:?}");
    assert!(name.repository().chars().all(plain), "{name:?}");
    assert!(name.repository().split('/').all(|part| !matches!(part, "" | "." | "..")), "{name:?}");
}

// --- documents --------------------------------------------------------------------------------------------------------

const DOCUMENTS: &[&str] = &[
    "\"schemaVersion\":2",
    "\"mediaType\":",
    "\"manifests\":[",
    "\"layers\":[",
    "\"config\":{",
    "\"Config\":",
    "\"digest\":\"sha256:",
    HEX,
    "\"size\":",
    "\"platform\":{\"os\":\"wasi\",\"architecture\":\"wasm\"}",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "\"urls\":[\"http://169.254.169.254/\"]",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/wasm",
    "application/vnd.wasm.config.v0+json",
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
    "\"history\":[{\"empty_layer\":true}]",
    "\"Env\":[\"A=b\"]",
    "\"Volumes\":{\"/\":{}}",
    "\"ExposedPorts\":{\"80/tcp\":{}}",
    "\"Healthcheck\":{\"Test\":[\"CMD\"],\"Interval\":-1}",
    "\"StopSignal\":\"9\"",
    "\"annotations\":{",
    "\"RepoTags\":[\"a:1\"]",
    "\"Layers\":[\"../../x\"]",
    "\"org.opencontainers.image.ref.name\":\"a\"",
    "\\u0000",
    "\\ud800",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
    "@layer@",
    "@layer-size@",
    "@config@",
    "@config-size@",
    "@manifest@",
    "@manifest-size@",
    "\n%%\n",
];

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@config@","size":@config-size@},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"@layer@","size":@layer-size@}]}"#;
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","author":"a","config":{"User":"0","Env":["A=b"],"Entrypoint":["/x"],"Cmd":["y"],"WorkingDir":"/w","Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"Labels":{"l":"m"},"StopSignal":"SIGTERM","Healthcheck":{"Test":["CMD","x"],"Interval":1000000000}},"rootfs":{"type":"layers","diff_ids":["@layer@"]},"history":[{"created_by":"c"},{"empty_layer":true}]}"#;
const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"@manifest@","size":@manifest-size@,"platform":{"os":"linux","architecture":"amd64"},"annotations":{"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"docker.io/library/a:1"}}]}"#;
const WASM: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"@config@","size":@config-size@},"layers":[{"mediaType":"application/wasm","digest":"@layer@","size":@layer-size@}]}"#;
const WASM_CONFIG: &str = r#"{"architecture":"wasm","os":"wasip2","layerDigests":["@layer@"],"component":{"imports":[],"exports":["wasi:cli/run@0.2.0"],"target":null}}"#;

/// The documents with all their holes filled, in some way.
fn filled(text: &str) -> String {
    let config = Digest::of(CONFIG.as_bytes()).to_string();
    let sizes = text
        .replace("@config-size@", "100")
        .replace("@layer-size@", "1024")
        .replace("@manifest-size@", "300");
    sizes
        .replace("@config@", &config)
        .replace("@layer@", &format!("sha256:{HEX}"))
        .replace("@manifest@", &config)
}

fn manifests() -> Vec<Vec<u8>> {
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let both = format!("{{\"manifests\":[],{}", &filled(MANIFEST)[1..]);
    texts(&[
        &filled(MANIFEST),
        &filled(INDEX),
        &filled(WASM),
        "{\"schemaVersion\":1,\"fsLayers\":[]}",
        &deep,
        &both,
        "[]",
        "{\"a\":1,\"A\":2}",
    ])
}

fn manifest(input: &[u8]) {
    for header in
        [None, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), Some("text/plain")]
    {
        let _ = document(input, header);
    }
    let (found, kind) = (entries(input), media_type(input));
    assert_eq!(found.is_ok(), kind.is_ok(), "two readers disagree");
}

fn images() -> Vec<Vec<u8>> {
    let pair = |manifest: &str, config: &str| [manifest.as_bytes(), BETWEEN, config.as_bytes()].concat();
    vec![pair(MANIFEST, CONFIG), pair(WASM, WASM_CONFIG), pair(MANIFEST, "{}"), pair(INDEX, CONFIG)]
}

fn image(input: &[u8]) {
    let at = input.windows(BETWEEN.len()).position(|window| window == BETWEEN);
    let (manifest, config) =
        at.map_or((input, &b"{}"[..]), |at| (&input[..at], &input[at + BETWEEN.len()..]));
    let layer = format!("sha256:{HEX}");
    let config = String::from_utf8_lossy(config).replace("@layer@", &layer);
    let manifest = String::from_utf8_lossy(manifest)
        .replace("@config@", Digest::of(config.as_bytes()).as_str())
        .replace("@config-size@", &config.len().to_string())
        .replace("@layer@", &layer)
        .replace("@layer-size@", "1024");
    let target = Digest::of(manifest.as_bytes());
    let Ok(image) = image_from(manifest.as_bytes(), config.as_bytes(), &target) else { return };
    sound(&image);
}

/// What is true of every image that is taken in.
fn sound(image: &Image) {
    let config = &image.config;
    let lists = [&config.env, &config.entrypoint, &config.cmd, &config.volumes, &config.exposed_ports];
    assert!(lists.into_iter().flatten().all(|text| !text.contains('\0')), "{image:?}");
    assert!(!config.user.contains(['\0', '\n']) && !config.working_dir.contains(['\0', '\n']), "{image:?}");
    assert!(!image.platform.os.is_empty() && !image.platform.architecture.is_empty(), "{image:?}");
}

// --- headers and credentials ------------------------------------------------------------------------------------------

const CHALLENGE: &[&str] = &[
    "Bearer ",
    "Basic ",
    "realm=",
    "service=",
    "scope=",
    "\"",
    ",",
    "=",
    "\\\"",
    "https://r.lan/token",
    "error=\"insufficient_scope\"",
];

fn headers() -> Vec<Vec<u8>> {
    texts(&[
        "Bearer realm=\"https://auth.lan/token\",service=\"r.lan\",scope=\"repository:a/b:pull\"",
        "Basic realm=\"x\"",
        "bearer  realm = https://a , service=b",
        "Bearer realm=\"unclosed",
        "Digest realm=\"x\"",
        "Bearer ==,=,\"",
        "",
    ])
}

fn header(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(Challenge::Bearer { realm, service }) = challenge(text) {
        assert!(text.contains(&realm) && service.is_none_or(|service| text.contains(&service)), "{text:?}");
    }
}

const CREDENTIALS: &[&str] = &[
    "\"auths\":{",
    "\"auth\":\"",
    "\"dTpw\"",
    "\"credsStore\":\"",
    "\"credHelpers\":{",
    "\"identitytoken\":",
    "\"registrytoken\":",
    "\"username\":",
    "\"password\":",
    "https://index.docker.io/v1/",
    "r.lan:5000",
    "r.lan/team",
    "../x",
    "null",
    "{}",
    "\\u0000",
];

fn credential_files() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"auths":{"r.lan":{"auth":"dTpw"},"https://index.docker.io/v1/":{"auth":"dTpwOmE="},"r.lan/team":{"identitytoken":"t"}}}"#,
        r#"{"auths":{"r.lan":{"username":"u","password":"p"}},"HttpHeaders":{"A":"b"}}"#,
        r#"{"credHelpers":{"r.lan":"../../bin/sh"},"credsStore":""}"#,
        r#"{"auths":[]}"#,
        r#"{"auths":{"r.lan":{"auth":"***"}}}"#,
        "",
        "[]",
    ])
}

/// Reads a file of credentials, and forgets one of them: whatever else is in the file stays.
fn credentials(folder: &Path) -> Run {
    let path = folder.join("config.json");
    Box::new(move |input| {
        // Nothing is started here: what a helper is called is all that would be tried.
        let helped = [&b"credsStore"[..], b"credHelpers"]
            .iter()
            .any(|word| input.windows(word.len()).any(|window| window == *word));
        fs::write(&path, input).expect("written");
        let keychain = Keychain::of_file(path.clone());
        for host in ["r.lan", "docker.io"] {
            if let Err(error) = keychain.find(host, "team/x") {
                let told = error.to_string();
                assert!(helped || !told.contains("dTpw"), "a secret is told: {told}");
            }
        }
        if !helped && keychain.erase("r.lan").is_ok_and(|gone| gone) {
            assert_eq!(keychain.find("r.lan", "x").expect("still a file of credentials"), None);
        }
    })
}

// --- archives ---------------------------------------------------------------------------------------------------------

const TAR: &[&str] = &[
    "../",
    "/",
    "./",
    "..",
    "out",
    "d/",
    ".wh.",
    ".wh..wh..opq",
    ".wh..",
    "ustar\x0000",
    "ustar  \0",
    "././@LongLink",
    "28 path=../../x\n",
    "12 size=1\n",
    "30 SCHILY.xattr.user.a=b\n",
    "40 SCHILY.xattr.trusted.overlay.opaque=y\n",
    "22 GNU.sparse.major=1\n",
    "22 GNU.sparse.minor=0\n",
    "30 GNU.sparse.map=0,1,9,1\n",
    "29 GNU.sparse.realsize=9999\n",
    "20 linkpath=/etc\n",
    "20 mtime=-1.5\n",
    "\x01\x02",
    "0000777",
    "0000000",
];

/// What lies outside, and must stay as it is.
struct Canary {
    folder: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    fn new(folder: &Path) -> Self {
        let folder = folder.join("canary");
        fs::create_dir_all(folder.join("dir")).expect("a canary");
        fs::write(folder.join("dir/victim"), "sings").expect("a canary");
        fs::write(folder.join("x"), "sings").expect("a canary");
        let before = look(&folder);
        Self { folder, before }
    }

    fn check(&self) {
        assert_eq!(look(&self.folder), self.before, "something outside was touched");
    }
}

/// Everything below a folder but times of reading.
fn look(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let about = fs::symlink_metadata(&path).expect("there");
        let mut text = format!(
            "{:?} {:?} {:?} {}",
            about.file_type(),
            about.permissions(),
            about.modified().ok(),
            about.len()
        );
        if about.is_dir() {
            pending.extend(fs::read_dir(&path).expect("listed").flatten().map(|entry| entry.path()));
        } else if about.is_file() {
            text += &fs::read_to_string(&path).expect("read");
        }
        found.insert(path, text);
    }
    found
}

/// Bounds that a changed number meets soon.
const LIMITS: Limits = Limits { entries: 2000, unpacked: 4 << 20 };

/// Places an archive as a layer; where that goes well, the layer is published, checks clean and is removed.
fn layer(folder: &Path) -> Run {
    let store = Store::open(&folder.join("store")).expect("a store");
    let canary = Canary::new(folder);
    Box::new(move |input| {
        let diff_id = Digest::of(input);
        let writer = store.layers().begin(&diff_id).expect("begun").expect("not there");
        let mut writer = writer.with_limits(LIMITS);
        if let Ok(applied) = writer.apply(input, LayerKind::Tar) {
            assert!(applied.diff_id == diff_id && applied.unpacked_size <= LIMITS.unpacked, "{applied:?}");
            writer.commit().expect("published");
            let seal = store.layers().seal(&diff_id).expect("sealed");
            assert!(store.layers().looks_like(&diff_id, &seal), "a layer does not look like itself");
            store.layers().remove(&[diff_id]).expect("removed");
        } else {
            drop(writer);
        }
        let left = fs::read_dir(store.root().join("layers")).expect("listed").flatten();
        let left: Vec<_> =
            left.filter(|entry| entry.path().extension().is_none_or(|end| end != "lock")).collect();
        assert!(left.is_empty(), "left: {left:?}");
        canary.check();
    })
}

/// Places an archive among files that are there, with links that lead out.
fn files(folder: &Path) -> Run {
    let canary = Canary::new(folder);
    let into = folder.join("into");
    Box::new(move |input| {
        let _ = fs::remove_dir_all(&into);
        fs::create_dir_all(into.join("d/e")).expect("a folder");
        fs::write(into.join("d/f"), "f").expect("a file");
        for (name, target) in
            [("out", canary.folder.join("dir")), ("up", "../canary".into()), ("d/loop", "loop".into())]
        {
            std::os::unix::fs::symlink(target, into.join(name)).expect("a link");
        }
        let opened = Dir::open_ambient_dir(&into, ambient_authority()).expect("opened");
        let _ = unpack_files(opened, input);
        assert!(into.join("d/e").is_dir(), "a directory was replaced");
        canary.check();
    })
}

fn layers() -> Vec<Vec<u8>> {
    let pax = |pax: &'static [(&'static str, &'static str)]| Entry { pax, ..file("p", 0o644, b"12345") };
    let link_out =
        [symlink("out", "/"), file("out/x", 0o644, b"evil"), symlink("up", ".."), dir("up/canary")];
    let mut all: Vec<Vec<u8>> = [
        &[dir("d"), file("d/f", 0o4755, b"content"), symlink("l", "d/f"), hard_link("h", "d/f")][..],
        &[file("../x", 0o644, b"evil"), file("/abs", 0o644, b"a"), file("a/../../x", 0o644, b"b")],
        &link_out,
        &[symlink("a", "b"), symlink("b", "a"), file("a/x", 0o644, b"")],
        &[
            hard_link("h", "/etc/passwd"),
            hard_link("h", "h"),
            hard_link("i", "later"),
            file("later", 0o644, b""),
        ],
        &[
            dir("d"),
            file("d/.wh.x", 0o644, b""),
            file("d/.wh..wh..opq", 0o644, b""),
            file(".wh..", 0o644, b""),
            file(".wh.", 0o644, b""),
        ],
        &[symlink("e", "/canary"), file("e/.wh.victim", 0o644, b""), file(".wh..wh.plnk", 0o644, b"")],
        &[device("c", b'3', 1, 3), device("b", b'4', 0, 0), device("p", b'6', 0, 0), device("w", b'3', 0, 0)],
        &[dir("x"), symlink("x", "/tmp"), dir("x"), file("x", 0o644, b"")],
        &[pax(&[("path", "../../x"), ("size", "3"), ("mtime", "-1.5"), ("uid", "7")])],
        &[pax(&[
            ("SCHILY.xattr.user.a", "b"),
            ("SCHILY.xattr.trusted.overlay.redirect", "/"),
            ("linkpath", "x"),
        ])],
        &[pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.realsize", "99"),
            ("GNU.sparse.name", "s"),
        ])],
        &[pax(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,2,5,3")])],
        &[
            Entry { kind: b'7', ..file("contiguous", 0o644, b"c") },
            Entry { kind: b'g', ..file("g", 0o644, b"10 path=x\n") },
        ],
        &[
            Entry { kind: b'L', ..file("././@LongLink", 0o644, b"long/name/of/a/file\0") },
            file("short", 0o644, b"l"),
        ],
        &[Entry { kind: b'S', ..file("sparse", 0o644, b"s") }],
        &[],
    ]
    .iter()
    .map(|entries| archive(entries))
    .collect();
    all.push(Vec::new());
    all.push(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    all.push(vec![0x28, 0xb5, 0x2f, 0xfd, 0x24, 0, 1, 0, 0]);
    all.push(b"BZh91AY&SY".to_vec());
    all.push(vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4]);
    all
}

// --- load -------------------------------------------------------------------------------------------------------------

fn archives() -> Vec<Vec<u8>> {
    let good = archive(&[dir("d"), file("d/f", 0o755, b"content"), symlink("l", "/d/f")]);
    let docker = |manifest: &str| {
        [b"docker", BETWEEN, manifest.as_bytes(), BETWEEN, CONFIG.as_bytes(), BETWEEN, &good].concat()
    };
    let oci = |index: &str, manifest: &str, config: &str, layer: &[u8]| {
        let documents = [index, manifest, config].map(|text| [text.as_bytes(), BETWEEN].concat()).concat();
        [b"oci", BETWEEN, &documents, layer].concat()
    };
    let mut all = vec![
        docker(r#"[{"Config":"c.json","RepoTags":["a:1","localhost:5000/b:2"],"Layers":["l.tar"]}]"#),
        docker(
            r#"[{"Config":"c.json","RepoTags":null,"Layers":["l.tar","l.tar"]},{"Config":"x","Layers":[]}]"#,
        ),
        docker(r#"[{"Config":"c.json","RepoTags":["../../x:1"],"Layers":["../../etc/passwd"]}]"#),
        docker(r#"[{"Config":"c.json","config":"c.json","Layers":["l.tar"]}]"#),
        oci(INDEX, MANIFEST, CONFIG, &good),
        oci(INDEX, WASM, WASM_CONFIG, b"\0asm\x01\0\0\0"),
        oci(INDEX, INDEX, CONFIG, &good),
        archive(&[
            file("repositories", 0o644, br#"{"a":{"1":"x"}}"#),
            file("x/json", 0o644, br#"{"id":"x","os":"linux","architecture":"amd64"}"#),
            file("x/layer.tar", 0o644, &good),
        ]),
        archive(&[
            symlink("manifest.json", "/etc/passwd"),
            symlink("index.json", "index.json"),
            file("oci-layout", 0o644, b"{}"),
        ]),
    ];
    all.extend(layers().into_iter().map(|layer| oci(INDEX, MANIFEST, CONFIG, &layer)));
    all
}

/// Loads an archive into an engine. What is refused leaves nothing; what is taken in is sound, and removed again.
fn load(folder: &Path) -> Run {
    let options = Options { root: Some(folder.join("root")), ..Options::default() };
    let engine = Engine::open(&options).expect("an engine");
    let root = folder.join("root");
    let canary = Canary::new(folder);
    Box::new(move |input| {
        let archive = script::archive(input);
        let outcome = engine.load(Source::Stream(Box::new(std::io::Cursor::new(archive))), &[], &Silent);
        let found = engine.images().expect("listed");
        assert_eq!(outcome.is_ok(), !found.is_empty(), "{outcome:?}");
        for stored in &found {
            sound(&stored.image);
        }
        if !found.is_empty() {
            engine.prune_images(true, |_| true).expect("removed");
        }
        for place in ["layers", "blobs/sha256", "ingest", "seals"] {
            let left =
                fs::read_dir(root.join(place)).expect("listed").flatten().map(|entry| entry.file_name());
            let left: Vec<_> = left.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
            assert!(left.is_empty(), "left in {place}: {left:?}");
        }
        canary.check();
    })
}

//! Accepted and refused texts, as seen of docker 28.

use super::*;

fn show(mount: &Mount) -> String {
    let access = if mount.read_only { "ro" } else { "rw" };
    let source = match &mount.source {
        MountSource::Bind { path, propagation, non_recursive, create } => {
            format!("bind {} {propagation:?} {non_recursive} {create}", path.display())
        }
        MountSource::Volume { name, anonymous, no_copy, subpath } => {
            format!("volume {name:?} {anonymous} {no_copy} {subpath:?}")
        }
        MountSource::Tmpfs { size, mode, options } => format!("tmpfs {size:?} {mode:?} {options:?}"),
    };
    format!("{source} on {} {access}", mount.target)
}

#[test]
fn volumes() {
    for (text, shown, bind) in [
        ("/a", "volume \"\" true false \"\" on /a rw", None),
        ("/a/../b/", "volume \"\" true false \"\" on /b rw", None),
        ("/tmp:/x", "bind /tmp Rprivate false true on /x rw", Some("/tmp:/x")),
        ("/tmp:/x:ro,z", "bind /tmp Rprivate false true on /x ro", Some("/tmp:/x:ro,z")),
        ("/tmp:/x:rslave", "bind /tmp Rslave false true on /x rw", Some("/tmp:/x:rslave")),
        ("/tmp:/x:consistent", "bind /tmp Rprivate false true on /x rw", Some("/tmp:/x:consistent")),
        ("./a:/x", "bind /here/a Rprivate false true on /x rw", Some("/here/a:/x")),
        ("../a:/x", "bind /a Rprivate false true on /x rw", Some("/a:/x")),
        (".:/x", "bind /here Rprivate false true on /x rw", Some("/here:/x")),
        ("vol:/x:nocopy", "volume \"vol\" false true \"\" on /x rw", Some("vol:/x:nocopy")),
    ] {
        let got = volume(text, Path::new("/here")).unwrap();
        assert_eq!((show(&got.mount).as_str(), got.bind.as_deref()), (shown, bind), "{text}");
    }
    let bind = "invalid mount config for type \"bind\": ";
    for (text, message) in [
        ("/tmp:/x:ro,rw", "invalid mode: ro,rw".to_owned()),
        ("/tmp:/x:bogus", "invalid mode: bogus".to_owned()),
        ("/tmp:/x:,", "invalid mode: ,".to_owned()),
        ("vol:/x:ro,ro", "invalid mode: ro,ro".to_owned()),
        ("/tmp:/x:rslave,shared", "invalid mode: rslave,shared".to_owned()),
        ("/tmp:/x:ro:rw", "invalid spec: /tmp:/x:ro:rw: too many colons".to_owned()),
        (":/x", "invalid spec: :/x: empty section between colons".to_owned()),
        ("/tmp:", "invalid spec: /tmp:: empty section between colons".to_owned()),
        ("", "invalid empty volume spec".to_owned()),
        (
            "/tmp:/x:nocopy",
            format!(
                "invalid volume specification: '/tmp:/x:nocopy': {bind}field VolumeOptions must not be specified"
            ),
        ),
        (
            "/tmp:x",
            format!(
                "invalid volume specification: '/tmp:x': {bind}invalid mount path: 'x' mount path must be absolute"
            ),
        ),
        (
            "named:/",
            "invalid volume specification: 'named:/': invalid mount config for type \"volume\": invalid specification: destination can't be '/'".to_owned(),
        ),
    ] {
        assert_eq!(volume(text, Path::new("/here")).unwrap_err().to_string(), message);
    }
    for text in ["a/b:/x", "~/a:/x", "b@d:/x", "a:/x"] {
        let error = volume(text, Path::new("/here")).unwrap_err().to_string();
        assert!(error.contains("includes invalid characters for a local volume name"), "{error}");
    }
}

#[test]
fn a_drive_is_a_part_of_the_source_where_there_are_drives() {
    for (text, drives, parts) in [
        ("C:\\data:/data:ro", true, &["C:\\data", "/data", "ro"][..]),
        ("c:/data:/data", true, &["c:/data", "/data"]),
        ("C:\\data", true, &["C:\\data"]),
        ("c:/data", false, &["c", "/data"]),
        ("vol:/data", true, &["vol", "/data"]),
        ("/a:/b:ro", true, &["/a", "/b", "ro"]),
        ("v:", true, &["v", ""]),
        ("", true, &[""]),
    ] {
        assert_eq!(sections(text, drives), parts, "{text}");
    }
}

#[test]
fn mounts() {
    for (text, shown) in [
        ("type=bind,src=/tmp,dst=/x", "bind /tmp Rprivate false false on /x rw"),
        ("TYPE=bind,SRC=/tmp,DST=/x", "bind /tmp Rprivate false false on /x rw"),
        (
            "type=bind,source=/tmp,target=/x,ro=true,bind-propagation=rslave",
            "bind /tmp Rslave false false on /x ro",
        ),
        ("type=bind,source=/tmp,\"target=/x,y\"", "bind /tmp Rprivate false false on /x,y rw"),
        ("type=bind,source=/t,target=/x,bind-recursive=disabled", "bind /t Rprivate true false on /x rw"),
        ("type=bind,type=volume,src=vv,dst=/x", "volume \"vv\" false false \"\" on /x rw"),
        ("target=/x", "volume \"\" true false \"\" on /x rw"),
        ("dst=/x,src=vv,volume-nocopy", "volume \"vv\" false true \"\" on /x rw"),
        ("dst=/x,src=vv,volume-nocopy=0,volume-subpath=a/b", "volume \"vv\" false false \"a/b\" on /x rw"),
        ("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1777", "tmpfs Some(1048576) Some(1023) [] on /x rw"),
    ] {
        assert_eq!(show(&mount(text).unwrap()), shown, "{text}");
    }
    for (text, message) in [
        ("", "EOF"),
        ("type=bind,source=/tmp,target=/x,ro=maybe", "invalid value for ro: maybe"),
        ("type=bind,src=/tmp,dst=/x,readonly=", "invalid value for readonly: "),
        ("type=bind,source=/tmp", "target is required"),
        ("type=bind,source=/tmp,target=/x,bogus=1", "unexpected key 'bogus' in 'bogus=1'"),
        ("type=bind, src=/tmp,dst=/x", "unexpected key ' src' in ' src=/tmp'"),
        ("type=bind,source=/tmp,target=/x,bogus", "invalid field 'bogus' must be a key=value pair"),
        ("type=bind,source=/tmp,,target=/x", "invalid field '' must be a key=value pair"),
        (
            "type=bind,source=/tmp,target=/x,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        (
            "type=bind,source=/tmp,target=/x,tmpfs-size=1",
            "cannot mix 'tmpfs-*' options with mount type 'bind'",
        ),
        (
            "source=a1,target=/x,bind-propagation=shared",
            "cannot mix 'bind-*' options with mount type 'volume'",
        ),
        ("type=tmpfs,dst=/x,tmpfs-mode=99", "invalid value for tmpfs-mode: 99"),
        ("type=tmpfs,dst=/x,tmpfs-size=abc", "invalid value for tmpfs-size: abc"),
        (
            "type=bind,source=/tmp,target=\"/x",
            "parse error on line 1, column 30: bare \" in non-quoted-field",
        ),
        (
            "type=bind,source=/tmp,target=/x,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
        ),
        (
            "type=bind,source=/tmp,target=/x,bind-recursive=readonly,ro",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
        ),
        ("type=bind,target=/x", "invalid mount config for type \"bind\": field Source must not be empty"),
        (
            "type=bind,source=rel,target=/x",
            "invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            "type=volume,source=named,target=/",
            "invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
        ),
        (
            "type=tmpfs,dst=/x,src=/a",
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        ("type=bogus,dst=/x", "invalid mount config for type \"bogus\": mount type unknown"),
        (
            "dst=/x,src=vv,volume-subpath=../b",
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
        ),
        (
            "type=bind,source=/tmp,target=/x,bind-propagation=bogus",
            "invalid mount config for type \"bind\": invalid propagation mode: bogus",
        ),
    ] {
        assert_eq!(mount(text).unwrap_err().to_string(), message, "{text}");
    }
    assert!(matches!(mount("dst=/x,src=vv,volume-driver=foo"), Err(Refused::Unsupported(_))));
}

#[test]
fn memory() {
    for (text, shown) in [
        ("/x", "tmpfs None None [] on /x rw"),
        ("/x:", "tmpfs None None [] on /x rw"),
        ("/x/../y:ro", "tmpfs None None [] on /y ro"),
        ("/x:size=1m,mode=755,noexec", "tmpfs Some(1048576) Some(493) [\"noexec\"] on /x rw"),
        ("/x:size=50%,uid=5", "tmpfs None None [\"size=50%\", \"uid=5\"] on /x rw"),
    ] {
        assert_eq!(show(&tmpfs(text).unwrap().0), shown, "{text}");
    }
    for (text, message) in [
        ("x", "invalid mount path: 'x' mount path must be absolute"),
        ("/", "invalid specification: destination can't be '/'"),
        ("", "invalid mount path: '' mount path must be absolute"),
        (":size=1", "invalid mount path: '' mount path must be absolute"),
        ("/x:size=abc", "invalid tmpfs option \"size=abc\""),
    ] {
        assert_eq!(tmpfs(text).unwrap_err().to_string(), message);
    }
}

//! A hostile directory: clear errors or correct service, never a wrong lease, never a panic.
#![cfg(target_os = "linux")] // owners, modes, links, namespaces

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use portlease::{ErrorKind, Registry};
use support::{Allotment, DEADLINE, OwnRegistry, SomebodyElse, is_root, stdout_of, unshare};

/// Opens a registry where `spoil` was at work, and says what is wrong with it.
fn refusal(spoil: impl Fn(&std::path::Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry");
    spoil(&path);
    let error = Registry::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

#[test]
fn what_is_in_the_place_of_the_directory() {
    let text = refusal(|path| fs::write(path, "").unwrap());
    assert!(text.contains("it is not a directory"), "{text}");
    let text = refusal(|path| {
        fs::create_dir(path.with_extension("target")).unwrap();
        symlink(path.with_extension("target"), path).unwrap();
    });
    assert!(text.contains("it is a symbolic link"), "{text}");
    let text = refusal(|path| {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    });
    assert!(text.contains("its mode 0755 lets other users in; `chmod 700`"), "{text}");
    if is_root() {
        let text = refusal(|path| {
            fs::create_dir(path).unwrap();
            chown(path, Some(12345), None).unwrap();
        });
        assert!(text.contains("it belongs to uid 12345, and this process runs as uid 0"), "{text}");
    }
}

#[test]
fn what_is_in_the_place_of_a_slot() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    drop(own.request().exact(block.last).lease().unwrap());
    let slots = own.slots();
    let slot = |offset: u16| slots.join((block.first + offset).to_string());
    fs::create_dir(slot(0)).unwrap();
    symlink("/nowhere", slot(1)).unwrap();
    assert!(Command::new("mkfifo").arg(slot(2)).status().unwrap().success());
    fs::write(slot(3), vec![0xff; 1 << 20]).unwrap();
    fs::write(slot(4), "portlease 1 held\npid 1\n").unwrap();
    fs::write(slots.join("not a port"), "").unwrap();
    fs::write(slots.join("table"), vec![0xff; 1 << 22]).unwrap();

    for offset in 0..=2 {
        let error = own.request().exact(block.first + offset).lease().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Registry, "{error}");
        assert!(error.to_string().contains(slot(offset).to_str().unwrap()), "{error}");
    }
    let range = block.first..=block.first + 4;
    let leases = own.request().range(range.clone()).lease_many(2).unwrap();
    assert_eq!(own.registry.list().unwrap().len(), 2, "the rest is left out");
    let error = own.request().range(range).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("3 with a slot that cannot be used ("), "{error}");
    drop(leases);
    let error = own.request().range(block.first..=block.first + 2).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry, "nothing but bad slots");
}

#[test]
fn a_directory_that_is_removed_while_in_use() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    fs::remove_dir_all(own.path()).unwrap();
    let another = own.request().lease().expect("the directory is made anew");
    assert_ne!(another.port(), lease.port());
    let error = own.request().exact(lease.port()).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken, "the kernel still holds it");
    let port = lease.port();
    lease.release().unwrap();
    // A child of another test may have a copy of the hold for a while, of which the new table knows nothing.
    drop(own.request().exact(port).wait(DEADLINE).lease().unwrap());
}

#[test]
fn a_slot_that_is_replaced_while_held() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let slot = own.slots().join(lease.to_string());
    fs::remove_file(&slot).unwrap();
    fs::write(&slot, "garbage").unwrap();
    let error = own.request().exact(lease.port()).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    let port = lease.port();
    drop(lease);
    drop(own.request().exact(port).lease().unwrap());
}

/// Runs `script`, which mounts and spoils what it likes for itself alone, and ends in a child that
/// takes a lease and says which, or why not.
fn lease_after(script: &str) -> Option<String> {
    // By an open descriptor, because the mounts may hide the program.
    let script = format!("exec 9<\"$0\"; child=/proc/$$/fd/9; {script}");
    unshare(&["--mount"], &script, &[]).map(|output| stdout_of(&output))
}

#[test]
fn a_full_file_system() {
    let mount = "mount -t tmpfs -o size=64k,nr_inodes=1000 none /mnt; mkdir -m 700 /mnt/r; ";
    let full = "cat /dev/zero >/mnt/full 2>/dev/null || true; exec $child try /mnt/r";
    // Room for no byte, but for files: a record that cannot be written does not fail the lease.
    let Some(answer) = lease_after(&format!("{mount}{full}")) else { return };
    assert!(answer.starts_with("leased 2"), "{answer}");
    let list = "cat /dev/zero >/mnt/full 2>/dev/null || true; exec $child list-own /mnt/r";
    assert_eq!(lease_after(&format!("{mount}{list}")).unwrap(), "1 without a record");
    // Room for no file.
    let files = "i=0; while touch /mnt/$i 2>/dev/null; do i=$((i+1)); done; exec $child try /mnt/r";
    let answer = lease_after(&format!("{mount}{files}")).unwrap();
    assert!(answer.starts_with("Registry: failed to create /mnt/r/net-"), "{answer}");
    assert!(answer.contains("PORTLEASE_DIR") && answer.contains("No space left"), "{answer}");
}

#[test]
fn a_read_only_file_system() {
    let mount = "mount -t tmpfs none /mnt; mkdir -m 700 /mnt/r; $child try /mnt/r >/dev/null; ";
    let script = format!("{mount} mount -o remount,bind,ro /mnt; exec $child try /mnt/r");
    let Some(answer) = lease_after(&script) else { return };
    assert!(answer.starts_with("Registry: failed to lock any slot in /mnt/r/net-"), "{answer}");
    assert!(answer.contains("PORTLEASE_DIR") && answer.contains("Read-only"), "{answer}");
}

#[test]
fn a_directory_without_permission() {
    let Some(other) = SomebodyElse::new() else { return };
    let dir = tempfile::tempdir().unwrap(); // of mode 0700
    let registry = dir.path().join("r");
    let mut command = other.child_command(&["try", registry.to_str().unwrap()]);
    let answer = stdout_of(&command.output().unwrap());
    assert!(answer.starts_with("Registry: failed to create "), "{answer}");
    assert!(answer.contains("Permission denied"), "{answer}");
}

/// The default place, in a `/tmp` of its own.
fn default_after(script: &str) -> Option<String> {
    lease_after(&format!(
        "mount -t tmpfs -o mode=1777 none /tmp; unset PORTLEASE_DIR; base=/tmp/portlease-$(id -u); \
         {script}"
    ))
}

#[test]
fn the_default_place_depends_on_no_variable() {
    for variables in ["TMPDIR=/mnt HOME=/nowhere", "PORTLEASE_DIR="] {
        let script = format!("{variables} $child try >/dev/null; ls -d /tmp/*; stat -c %a $base");
        let Some(answer) = default_after(&script) else { return };
        assert_eq!(answer, "/tmp/portlease-0\n700"); // `unshare` makes everybody root
    }
}

#[test]
fn a_squatter_in_the_default_place() {
    let squat = "ln -s /nowhere $base; touch $base-1; mkdir -m 777 $base-2; ";
    let script = format!("{squat} $child try >/dev/null; ls -d $base*/ | grep -v -e -2/");
    let Some(answer) = default_after(&script) else { return };
    assert_eq!(answer, "/tmp/portlease-0-3/");
    // The squatter went away: who comes later still finds those who came before.
    let script =
        format!("{squat} $child try >/dev/null; rm $base; $child try >/dev/null; ls -d $base*/");
    let answer = default_after(&script).unwrap();
    assert_eq!(answer, "/tmp/portlease-0-2/\n/tmp/portlease-0-3/");
    let script =
        "ln -s /nowhere $base; for i in 1 2 3 4 5 6 7; do touch $base-$i; done; exec $child try";
    let answer = default_after(script).unwrap();
    assert!(answer.starts_with("Registry: no directory for the registry"), "{answer}");
    assert!(answer.contains("PORTLEASE_DIR"), "{answer}");
    assert!(answer.contains("/tmp/portlease-0 cannot be used: it is a symbolic link"), "{answer}");
    assert!(
        answer.contains("/tmp/portlease-0-7 cannot be used: it is not a directory"),
        "{answer}"
    );
}

//! What happens to the registry's directory.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::dice::Dice;
use crate::support::stdout_of;

/// Does one thing to the registry at `path`, whose ports are so many from `first` on. It may fail:
/// others are at work too.
pub(crate) fn damage(dice: &mut Dice, path: &Path, first: u16, count: u16) -> io::Result<()> {
    let slots = slots(path)?;
    let slot = slots.join((first + dice.below(count.into()) as u16).to_string());
    let table = slots.join("table");
    match dice.below(16) {
        0..4 => fs::remove_file(&slot),
        4 => fs::remove_file(slot.with_extension("line")),
        5 => fs::remove_file(&slot).and_then(|()| fs::create_dir(&slot)),
        6 => fs::remove_file(&slot).and_then(|()| symlink("/nowhere", &slot)),
        7 => {
            let _ = fs::remove_file(&slot);
            let made = Command::new("mkfifo").arg(&slot).output()?;
            if made.status.success() { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
        }
        8 => {
            let garbage: Vec<u8> = (0..64).flat_map(|_| dice.roll().to_le_bytes()).collect();
            let table = File::options().write(true).open(&table)?;
            table.write_all_at(&garbage, u64::from(first) * 4)
        }
        9 => File::options().write(true).open(&table)?.set_len(dice.below(99)),
        10 => fs::remove_file(&table),
        11 => fs::remove_file(&table).and_then(|()| fs::create_dir(&table)),
        12 => {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
            std::thread::sleep(dice.millis(5));
            fs::set_permissions(path, Permissions::from_mode(0o700))
        }
        13 => fs::rename(&slots, slots.with_extension("moved")),
        14 => fs::rename(path, path.with_extension(dice.roll().to_string())),
        _ => fs::remove_dir_all(path),
    }
}

/// The directory in which the slots are, in the registry at `path`: not one that was moved away, nor what else
/// was put beside it.
pub(crate) fn slots(path: &Path) -> io::Result<PathBuf> {
    let are_slots = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("net") && !name.contains('.'))
    };
    let mut all = fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path()));
    all.find(are_slots).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// A small file system, where it is mounted.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mounted_at(path: &Path) -> SmallDisk {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96k,nr_inodes=40,mode=700", "none"]).arg(path);
        stdout_of(&mount.output().unwrap());
        SmallDisk(path.to_owned())
    }

    /// Fills it, for a moment: with bytes, or with files.
    pub(crate) fn fill(&self, dice: &mut Dice) {
        let ballast = self.0.join("ballast");
        let _ = fs::create_dir(&ballast);
        if dice.one_in(2) {
            let mut file = File::create(ballast.join("bytes")).ok();
            for _ in 0..1000 {
                let _ = file.as_mut().map(|file| file.write_all(&[1; 512]));
            }
        } else {
            for number in 0..100 {
                let _ = File::create(ballast.join(number.to_string()));
            }
        }
        std::thread::sleep(dice.millis(30));
        let _ = fs::remove_dir_all(ballast);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

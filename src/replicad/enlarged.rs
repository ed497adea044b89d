//! A disk that has become larger since it was last seen: its metadata, which lies at the end, moves to the new end. The
//! size at which it was last seen is kept in a file; the file only says where to look, what counts is what is there.
//!
//! A power cut leaves whole metadata at the new end, which is looked at first, or none there and the old one as it was.

use std::fs;
use std::path::{Path, PathBuf};

use replica::meta::{Attached, Layout, MetaError};

use crate::aligned::Aligned;
use crate::disk::{Backing, DiskProblem};

/// Where the sizes are.
const FOLDER: &str = "/var/lib/futago/disks";
/// Bytes written at a time.
const PIECE: usize = 1 << 20;

/// The file of a resource.
#[must_use]
pub fn default_path(resource: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{resource}.bytes"))
}

/// Reads the metadata of a disk, which is moved first if the disk has grown.
pub fn attach(disk: &Backing, known: &Path) -> Result<Attached, DiskProblem> {
    let found = disk.attach();
    if found.is_ok() {
        remember(disk.bytes(), known);
    }
    // A torn one is what a power cut may have left of the move.
    if !matches!(&found, Err(DiskProblem::Meta { error: MetaError::Missing | MetaError::Damaged, .. })) {
        return found;
    }
    let Some((old, attached)) = at_the_old_end(disk, known) else { return found };
    let (before, now) = (old / 1024, disk.bytes() / 1024);
    let Some([content, superblock, end]) = attached.moved_to(&disk.layout()?) else {
        tracing::warn!(
            "the disk has grown from {before} to {now} KiB; its metadata stays where it is: a resync is interrupted, or there are only some KiB more"
        );
        return Ok(attached);
    };
    let mut buffer = Aligned::zeroed(PIECE);
    for writes in [content, superblock, end] {
        for (offset, bytes) in &writes {
            let written = disk.write_copied(*offset, bytes, &mut buffer);
            written.map_err(|error| disk.problem("move the metadata", error))?;
        }
        disk.flush().map_err(|error| disk.problem("move the metadata", error))?;
    }
    tracing::info!("the disk has grown from {before} to {now} KiB: its metadata was moved to the new end");
    remember(disk.bytes(), known);
    disk.attach()
}

/// The metadata of a disk that has grown, where its end was, and the size that it had.
pub fn at_the_old_end(disk: &Backing, known: &Path) -> Option<(u64, Attached)> {
    let old = last_seen(known).filter(|bytes| *bytes < disk.bytes())?;
    Some((old, disk.attach_at(Layout::for_device(old).ok()?).ok()?))
}

fn last_seen(known: &Path) -> Option<u64> {
    fs::read_to_string(known).ok()?.trim().parse().ok()
}

/// Without the file a disk that grows while its daemon is off is not recognised: no reason to refuse it now.
fn remember(bytes: u64, known: &Path) {
    if last_seen(known) == Some(bytes) {
        return;
    }
    let folder = known.parent().unwrap_or(Path::new("/"));
    let kept = fs::create_dir_all(folder)
        .and_then(|()| base::file::replace(known, format!("{bytes}\n").as_bytes(), 0o600));
    if let Err(error) = kept {
        tracing::warn!("note the size of the disk in {}: {error}", known.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replica::meta::creation;
    use std::os::unix::fs::FileExt as _;

    const OLD: u64 = 8 << 20;

    struct Case {
        folder: tempfile::TempDir,
        file: tempfile::NamedTempFile,
    }

    impl Case {
        /// A disk in use, some blocks marked, then grown.
        fn grown(bytes: u64) -> Self {
            let case = Self {
                folder: tempfile::tempdir_in(".").unwrap(),
                file: tempfile::NamedTempFile::new_in(".").unwrap(),
            };
            case.file.as_file().set_len(OLD).unwrap();
            let layout = Layout::for_device(OLD).unwrap();
            for (offset, bytes) in creation(&layout).into_iter().flatten() {
                case.file.as_file().write_all_at(&bytes, offset).unwrap();
            }
            case.file.as_file().write_all_at(&[0x0f], layout.bitmap_at).unwrap();
            case.attach().unwrap();
            case.file.as_file().set_len(bytes).unwrap();
            case
        }

        fn attach(&self) -> Result<Attached, DiskProblem> {
            attach(&Backing::open(self.file.path()).unwrap(), &self.folder.path().join("r0.bytes"))
        }
    }

    #[test]
    fn the_metadata_moves_with_the_end_and_keeps_what_it_says() {
        let case = Case::grown(16 << 20);
        let moved = case.attach().unwrap();
        assert_eq!(moved.layout, Layout::for_device(16 << 20).unwrap());
        assert_eq!(moved.superblock.data_bytes, moved.layout.data_bytes);
        assert_eq!(moved.bitmap.count(), 4);
        let old = Backing::open(case.file.path()).unwrap().attach_at(Layout::for_device(OLD).unwrap());
        assert!(
            matches!(old, Err(DiskProblem::Meta { error: MetaError::Missing, .. })),
            "the old one is gone"
        );
        assert_eq!(case.attach().unwrap().superblock.sequence, moved.superblock.sequence);
    }

    #[test]
    fn a_few_more_blocks_leave_it_where_it_is() {
        let case = Case::grown(OLD + 8192);
        assert_eq!(case.attach().unwrap().layout, Layout::for_device(OLD).unwrap());
    }

    #[test]
    fn a_cut_at_any_write_leaves_one_of_both() {
        let case = Case::grown(16 << 20);
        let to = Layout::for_device(16 << 20).unwrap();
        let disk = Backing::open(case.file.path()).unwrap();
        let attached = disk.attach_at(Layout::for_device(OLD).unwrap()).unwrap();
        drop(disk);
        let writes: Vec<_> = attached.moved_to(&to).unwrap().into_iter().flatten().collect();
        for done in 0..=writes.len() {
            let cut = Case::grown(16 << 20);
            for (offset, bytes) in &writes[..done] {
                cut.file.as_file().write_all_at(bytes, *offset).unwrap();
            }
            if let Some((offset, bytes)) = writes.get(done) {
                cut.file.as_file().write_all_at(&bytes[..512], *offset).unwrap();
            }
            let found = cut.attach().unwrap();
            assert_eq!((found.layout, found.bitmap.count()), (to, 4), "after {done} writes");
        }
    }
}

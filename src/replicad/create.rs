//! `create-md`: makes a disk one of ours. Works without the daemon, and never on a disk that carries anything,
//! unless told so.

use std::path::Path;

use replica::config::Local;
use replica::event::BLOCK;
use replica::generation::JUST_CREATED;
use replica::meta::{Attached, Layout, MetaError, creation};

use crate::aligned::Aligned;
use crate::disk::{Backing, DiskProblem};
use crate::enlarged;
use crate::signature;

/// Bytes written at a time.
const PIECE: usize = 1 << 20;

/// Whether leftovers on the disk may be written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Refuse.
    Respect,
    /// Write over them.
    Overwrite,
}

/// Why no metadata was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskProblem),
    /// It carries something.
    #[error("{0}")]
    Refused(String),
}

/// Creates the metadata; the steps are told on stdout, in DRBD's words.
pub fn create(local: &Local, leftovers: Leftovers) -> Result<(), CreateError> {
    let disk = Backing::open(Path::new(&local.disk))?;
    let layout = disk.layout()?;
    if leftovers == Leftovers::Respect {
        refuse_leftovers(&disk, &layout, local)?;
    }
    println!("initializing activity log");
    println!("initializing bitmap ({} KB) to all zero", layout.bitmap_bytes / 1024);
    let [blank, superblock] = creation(&layout);
    write(&disk, &blank)?;
    println!("Writing meta data...");
    write(&disk, &superblock)?;
    println!("New futago meta data block successfully created.");
    Ok(())
}

/// Writes and makes durable.
fn write(disk: &Backing, writes: &[(u64, Vec<u8>)]) -> Result<(), DiskProblem> {
    let mut buffer = Aligned::zeroed(PIECE);
    for (offset, bytes) in writes {
        disk.write_copied(*offset, bytes, &mut buffer).map_err(|e| disk.problem("write metadata", e))?;
    }
    disk.flush().map_err(|e| disk.problem("flush metadata", e))
}

fn refuse_leftovers(disk: &Backing, layout: &Layout, local: &Local) -> Result<(), CreateError> {
    let (path, resource) = (&local.disk, &local.settings.resource);
    if let Some((bytes, attached)) = enlarged::at_the_old_end(disk, &enlarged::default_path(resource)) {
        let grown = format!(
            "{}\n    where the end of the disk was when it had {} kB: the daemon moves it when it starts",
            describe(&attached, path),
            bytes / 1024
        );
        return Err(refused(&grown, resource));
    }
    match disk.attach() {
        Err(DiskProblem::Meta { error: MetaError::Missing, .. }) => {}
        Err(DiskProblem::Meta { error, .. }) => {
            let found = format!("There is futago meta data on {path} that cannot be read:\n    {error}");
            return Err(refused(&found, resource));
        }
        Err(error) => return Err(error.into()),
        Ok(attached) => return Err(refused(&describe(&attached, path), resource)),
    }
    let found = signature::find(disk).map_err(|error| disk.problem("look for signatures", error))?;
    found.map_or(Ok(()), |what| {
        let text = format!(
            "md_offset {}\nal_offset {}\nbm_offset {}\n\nFound {what} on {path}\n    {:>12} kB left usable by current configuration",
            layout.super_at,
            layout.activity_at,
            layout.bitmap_at,
            layout.data_bytes / 1024
        );
        Err(refused(&text, resource))
    })
}

fn refused(found: &str, resource: &str) -> CreateError {
    CreateError::Refused(format!(
        "{found}\n\n ==> This might destroy existing data! <==\n\nOperation refused.\n  If the data on this disk is not needed: futago replica create-md --force {resource}"
    ))
}

fn describe(attached: &Attached, path: &str) -> String {
    let superblock = &attached.superblock;
    let generations = &superblock.generations;
    let generation = if generations.current == JUST_CREATED {
        "just created, never held data".to_owned()
    } else {
        format!("generation {:016X}, number {}", generations.current, generations.counter)
    };
    let worth = match (superblock.consistent, superblock.was_up_to_date, superblock.outdated) {
        (false, ..) => "Inconsistent",
        (true, _, true) => "Outdated",
        (true, true, false) => "UpToDate when last in use",
        (true, false, false) => "Consistent",
    };
    let dirty = attached.bitmap.count() * BLOCK / 1024;
    format!(
        "There is already futago meta data in place on {path}:\n    {generation}; {worth}; {} kB usable, {dirty} kB marked out of sync",
        superblock.data_bytes / 1024
    )
}

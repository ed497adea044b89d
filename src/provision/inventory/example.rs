//! `futago init`: the example project.

use std::io;
use std::path::{Path, PathBuf};

const INVENTORY: &str = include_str!("../../../inventory/example.yml");

/// Writes an example inventory into a folder, which is made when missing; never over an existing file.
/// Returns the path of the inventory.
pub fn write_example(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("inventory").join("ha.yml");
    std::fs::create_dir_all(folder.join("inventory"))?;
    let mut file = std::fs::File::create_new(&path)?;
    io::Write::write_all(&mut file, INVENTORY.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_valid_inventory_and_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_example(folder.path()).unwrap();
        let inventory = super::super::Inventory::load(&path).unwrap();
        assert_eq!(inventory.hosts.len(), 2);
        assert_eq!(inventory.project(), folder.path());
        assert_eq!(write_example(folder.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}

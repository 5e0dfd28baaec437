//! What the paths below the prefix of a log name (C2SP tlog-tiles).

use std::fmt;

use crate::{
    proof::decimal,
    tree::{TILE_WIDTH, TileId},
};

/// Levels and numbers beyond these are in no tree that we serve.
const MAX_LEVEL: u64 = 63;
const MAX_GROUPS: usize = 6;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPath {
    /// `checkpoint`: the newest one.
    Checkpoint,
    /// `tile/<L>/<N>[.p/<W>]`: the first `width` hashes of a tile.
    Tile {
        /// Which.
        tile: TileId,
        /// 1 to [`TILE_WIDTH`].
        width: usize,
    },
    /// `tile/entries/<N>[.p/<W>]`: the entries below the first `width` hashes of a tile of level 0.
    Entries {
        /// The index of the tile.
        index: u64,
        /// 1 to [`TILE_WIDTH`].
        width: usize,
    },
}

impl LogPath {
    /// Reads a path without the slash at its beginning. One thing has one path.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if path == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        let (level, place) = path.strip_prefix("tile/")?.split_once('/')?;
        let (index, width) = match place.split_once(".p/") {
            None => (place, TILE_WIDTH),
            Some((index, width)) => {
                let width = usize::try_from(decimal(width)?).ok()?;
                (index, Some(width).filter(|width| (1..TILE_WIDTH).contains(width))?)
            }
        };
        let index = number(index)?;
        if level == "entries" {
            return Some(Self::Entries { index, width });
        }
        let level = u8::try_from(decimal(level).filter(|level| *level <= MAX_LEVEL)?).ok()?;
        Some(Self::Tile { tile: TileId { level, index }, width })
    }
}

impl fmt::Display for LogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, width) = match self {
            Self::Checkpoint => return f.write_str("checkpoint"),
            Self::Tile { tile, width } => {
                write!(f, "tile/{}/", tile.level)?;
                (tile.index, width)
            }
            Self::Entries { index, width } => {
                f.write_str("tile/entries/")?;
                (*index, width)
            }
        };
        write_number(f, index)?;
        if *width < TILE_WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

/// The other way round than [`number`].
fn write_number(f: &mut fmt::Formatter<'_>, number: u64) -> fmt::Result {
    if number >= 1000 {
        write_groups(f, number / 1000)?;
    }
    write!(f, "{:03}", number % 1000)
}

/// The groups before the last.
fn write_groups(f: &mut fmt::Formatter<'_>, number: u64) -> fmt::Result {
    if number >= 1000 {
        write_groups(f, number / 1000)?;
    }
    write!(f, "x{:03}/", number % 1000)
}

/// `x001/x234/067` is 1234067: groups of three digits, an `x` before all but the last.
fn number(text: &str) -> Option<u64> {
    let groups: Vec<&str> = text.split('/').collect();
    let (last, before) = groups.split_last()?;
    if groups.len() > MAX_GROUPS || before.first() == Some(&"x000") {
        return None;
    }
    let three = |group: &str| {
        let digits = group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| group.parse::<u64>().ok()).flatten()
    };
    let high = before
        .iter()
        .try_fold(0, |number, group| Some(number * 1000 + group.strip_prefix('x').and_then(three)?))?;
    Some(high * 1000 + three(last)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(level: u8, index: u64, width: usize) -> Option<LogPath> {
        Some(LogPath::Tile { tile: TileId { level, index }, width })
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        for (path, expected) in [
            ("checkpoint", Some(LogPath::Checkpoint)),
            ("tile/0/000", tile(0, 0, 256)),
            ("tile/0/x001/x000/x000/000", tile(0, 1_000_000_000, 256)),
            ("tile/1/x001/x234/067", tile(1, 1_234_067, 256)),
            ("tile/0/x001/000.p/17", tile(0, 1000, 17)),
            ("tile/entries/999.p/255", Some(LogPath::Entries { index: 999, width: 255 })),
            ("tile/entries/x001/000", Some(LogPath::Entries { index: 1000, width: 256 })),
        ] {
            assert_eq!(LogPath::parse(path), expected, "{path}");
            assert_eq!(expected.unwrap().to_string(), path);
        }
    }

    #[test]
    fn everything_has_one_path() {
        for path in [
            "",
            "/checkpoint",
            "checkpoint/",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x01/002",
            "tile/0/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/+01",
            "tile/data/000",
            "tile/0/x001/x001/x001/x001/x001/x001/001",
        ] {
            assert_eq!(LogPath::parse(path), None, "{path}");
        }
    }
}

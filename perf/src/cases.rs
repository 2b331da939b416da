//! The axes of a measurement: which way a packet goes, how long frames are, how many flows there are.

use std::fmt;

/// What is done to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Plain IPv6 forwarding over the default route.
    Forward,
    /// Plain IPv6 forwarding over a full Internet table.
    ForwardFullTable,
    /// NPT66, inside to outside.
    Npt66Out,
    /// NPT66, outside to inside.
    Npt66In,
}

impl Way {
    /// All that need nothing but this crate.
    pub const ALL: [Self; 3] = [Self::Npt66Out, Self::Npt66In, Self::Forward];

    /// Whether addresses are translated.
    #[must_use]
    pub const fn translates(self) -> bool {
        matches!(self, Self::Npt66Out | Self::Npt66In)
    }

    /// The suite its records belong to.
    #[must_use]
    pub const fn suite(self) -> &'static str {
        match self {
            Self::Forward | Self::ForwardFullTable => "forward",
            Self::Npt66Out | Self::Npt66In => "npt66",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::ForwardFullTable => "forward-full-table",
            Self::Npt66Out => "npt66-out",
            Self::Npt66In => "npt66-in",
        })
    }
}

/// Frame lengths, in bytes without FCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sizes {
    /// 64 bytes each.
    Small,
    /// 7 of 64, 4 of 594 and 1 of 1514, spread evenly.
    Imix,
}

impl Sizes {
    /// The pattern, which repeats.
    #[must_use]
    pub const fn pattern(self) -> &'static [usize] {
        match self {
            Self::Small => &[64],
            Self::Imix => &[64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 64, 594],
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Small => "64B",
            Self::Imix => "IMIX",
        })
    }
}

/// Number of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flows {
    /// 1.
    One,
    /// 1,024.
    Thousand,
    /// 65,536.
    SixtyFourThousand,
    /// 1,048,576.
    Million,
    /// 10,485,760.
    TenMillion,
}

impl Flows {
    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Thousand => 1 << 10,
            Self::SixtyFourThousand => 1 << 16,
            Self::Million => 1 << 20,
            Self::TenMillion => 10 << 20,
        }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::One => "1",
            Self::Thousand => "1k",
            Self::SixtyFourThousand => "64k",
            Self::Million => "1M",
            Self::TenMillion => "10M",
        })
    }
}

/// Traffic: everything about the packets but what is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// How long.
    pub sizes: Sizes,
    /// How many flows.
    pub flows: Flows,
}

impl Point {
    /// Every combination, small frames first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        [Sizes::Small, Sizes::Imix]
            .into_iter()
            .flat_map(|sizes| {
                [Flows::One, Flows::Thousand, Flows::SixtyFourThousand]
                    .map(|flows| Self { sizes, flows })
            })
            .collect()
    }

    /// The three that say most.
    #[must_use]
    pub fn quick() -> Vec<Self> {
        [
            (Sizes::Small, Flows::Thousand),
            (Sizes::Small, Flows::SixtyFourThousand),
            (Sizes::Imix, Flows::Thousand),
        ]
        .map(|(sizes, flows)| Self { sizes, flows })
        .to_vec()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sizes, self.flows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_is_seven_four_one() {
        let count = |size| Sizes::Imix.pattern().iter().filter(|s| **s == size).count();
        assert_eq!((count(64), count(594), count(1514)), (7, 4, 1));
        assert_eq!(Sizes::Imix.pattern().len(), 12);
    }

    #[test]
    fn a_case_is_named_way_sizes_flows() {
        let point = Point {
            sizes: Sizes::Small,
            flows: Flows::Thousand,
        };
        assert_eq!(format!("{}/{point}", Way::Npt66Out), "npt66-out/64B/1k");
    }
}

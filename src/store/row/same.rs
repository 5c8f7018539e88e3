//! Joins of domain and rows where both have the same shape today.

/// Joins two types of the same members, both ways.
macro_rules! same_members {
    ($domain:ident, $row:ident, { $($member:ident),+ }) => {
        impl From<$domain> for $row {
            fn from(value: $domain) -> Self {
                let $domain { $($member),+ } = value;
                Self { $($member),+ }
            }
        }
        impl From<$row> for $domain {
            fn from(row: $row) -> Self {
                let $row { $($member),+ } = row;
                Self { $($member),+ }
            }
        }
    };
}

/// Joins two enums of the same plain variants, both ways.
macro_rules! same_variants {
    ($domain:ident, $row:ident, { $($variant:ident),+ }) => {
        impl From<$domain> for $row {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant),+ }
            }
        }
        impl From<$row> for $domain {
            fn from(row: $row) -> Self {
                match row { $($row::$variant => Self::$variant),+ }
            }
        }
    };
}

pub(super) use {same_members, same_variants};

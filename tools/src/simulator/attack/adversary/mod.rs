//! What goes out in place of what a liar's own parts say; everybody else's messages pass through here unchanged.

mod leaders;
mod repair;
mod voters;

pub(super) use self::repair::Forger;

//! The options that say what workers may do, and who may connect to a Unix listener, as text and back.

use dutch_master::options::{LimitError, ResourceLimit, SocketAccess};

/// Permission bits that a file can have.
const MODE_MAX: u32 = 0o777;

/// The name or number of a user or group.
pub(super) fn account(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['\0', ':', ',']) { Err("the name or number of one is wanted".into()) } else { Ok(text.into()) }
}

/// Permission bits in octal, as `chmod` has them.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= MODE_MAX && !text.starts_with('+'));
    mode.ok_or_else(|| "three octal digits are wanted, such as `027`".into())
}

/// [`mode`] back.
pub(super) fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// `NAME=SOFT[:HARD]`.
pub(super) fn limit(text: &str) -> Result<ResourceLimit, String> {
    text.parse().map_err(|error: LimitError| error.to_string())
}

/// Takes `,mode=…`, `,owner=…` and `,group=…` from the end of `unix:PATH`.
pub(super) fn access(text: &str) -> Result<(&str, SocketAccess), String> {
    let (mut rest, mut access) = (text, SocketAccess::default());
    while let Some((before, last)) = rest.rsplit_once(',') {
        let given_before = match last.split_once('=') {
            Some(("mode", value)) => access.mode.replace(mode(value)?).is_some(),
            Some(("owner", value)) => access.owner.replace(account(value)?).is_some(),
            Some(("group", value)) => access.group.replace(account(value)?).is_some(),
            // The rest of the path.
            Some(_) | None => break,
        };
        if given_before {
            return Err(format!("`{last}` and another one of that kind"));
        }
        rest = before;
    }
    Ok((rest, access))
}

/// [`access`] back.
pub(super) fn access_text(access: &SocketAccess) -> String {
    let SocketAccess { mode, owner, group } = access;
    let parts = [
        mode.map(|mode| format!(",mode={}", octal(mode))),
        owner.as_ref().map(|owner| format!(",owner={owner}")),
        group.as_ref().map(|group| format!(",group={group}")),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal() {
        assert_eq!((mode("027").unwrap(), mode("0660").unwrap()), (0o27, 0o660));
        for wrong in ["", "8", "1777", "+7", "rw", "0x7"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_may_connect_stands_behind_the_path_which_may_have_commas_itself() {
        for text in ["unix:/run/a.sock", "unix:/run/a,b.sock,mode=0660", "unix:/run/a.sock,mode=0600,owner=www-data,group=7"] {
            let (path, access) = access(text).unwrap();
            assert_eq!(format!("{path}{}", access_text(&access)), text);
        }
        let (path, access) = access("unix:/run/a,group=g,mode=660").unwrap();
        assert_eq!((path, access.mode, access.group.as_deref()), ("unix:/run/a", Some(0o660), Some("g")));
        for wrong in ["unix:/a,mode=9", "unix:/a,owner=", "unix:/a,mode=600,mode=660"] {
            assert!(super::access(wrong).is_err(), "{wrong}");
        }
    }
}

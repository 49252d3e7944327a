//! The user of an image, looked up in its own files.

use crate::store::ImageUser;
use spawnery_sandbox::accounts;

/// Finds the ids of `USER` or `USER:GROUP`, each a name or a number, in the texts of
/// `/etc/passwd` and `/etc/group`.
pub(super) fn resolve(written: &str, passwd: &str, group: &str) -> Result<ImageUser, String> {
    let user = accounts::resolve(written, passwd, group)?.user;
    let (uid, gid, groups) = (user.uid, user.gid, user.groups);
    Ok(ImageUser { written: written.to_owned(), uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv:/bin/false\nbroken\n";
        let group = "root:x:0:\nweb:x:34:\nlog:x:4:www,other\nhuge:x:99999:www\n";
        let check = |written: &str, uid: u32, gid: u32, groups: &[u32]| {
            let it = resolve(written, passwd, group).expect(written);
            assert_eq!((it.uid, it.gid, it.groups.as_slice()), (uid, gid, groups), "{written}");
            assert_eq!(it.written, written);
        };
        check("www", 33, 34, &[4]);
        check("33", 33, 34, &[4]);
        check("www:log", 33, 4, &[]);
        check("33:7", 33, 7, &[]);
        check("1000", 1000, 0, &[]);
        check("1000:1001", 1000, 1001, &[]);
        check(":web", 0, 34, &[]);
        for refused in ["nobody", "www:none", "70000", "1:70000", "-1"] {
            assert!(resolve(refused, passwd, group).is_err(), "{refused}");
        }
    }
}

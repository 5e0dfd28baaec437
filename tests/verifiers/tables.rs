//! The tables: a situation, what a client pinned or which agent it is, and who believes that.

/// Which verifiers believe the server (`+`) or refuse it (`-`). openssl stands for `s_client` and `verify`, both with
/// `-x509_strict`; python for the default context with the flags of 3.13; webpki for rustls in our client; go for
/// crypto/x509, which counts a link as a further CA below the old root.
pub(super) const SERVER: &str = "
situation                   | pinned          | openssl python webpki go
fresh                       | new root        | + + + +
fresh                       | file            | + + + +
intermediate rotated        | new root        | + + + +
intermediate rotated        | file of before  | + + + +
intermediate rotated        | file            | + + + +
cut                         | old root        | + + + -
cut                         | file of before  | + + + -
cut                         | new root        | + + + +
cut                         | file            | + + + +
cut of a wide root          | old root        | + + + +
cut of a wide root          | file of before  | + + + +
cut of a wide root          | new root        | + + + +
cut of a wide root          | file            | + + + +
compromise                  | old root        | - - - -
compromise                  | file of before  | - - - -
compromise                  | new root        | + + + +
compromise                  | file            | + + + +
two cuts behind             | oldest root     | + + + -
two cuts behind             | old root        | + + + -
two cuts behind             | file of before  | + + + -
two cuts behind             | new root        | + + + +
two cuts behind             | file            | + + + +
two overlaps behind         | oldest root     | + + + -
two overlaps behind         | old root        | + + + -
two overlaps behind         | file of before  | + + + -
two overlaps behind         | new root        | + + + +
two overlaps behind         | file            | + + + +
a cut and an overlap behind | oldest root     | + + + -
a cut and an overlap behind | old root        | + + + -
a cut and an overlap behind | file of before  | + + + -
a cut and an overlap behind | new root        | + + + +
a cut and an overlap behind | file            | + + + +
an overlap and a cut behind | oldest root     | + + + -
an overlap and a cut behind | old root        | + + + -
an overlap and a cut behind | file of before  | + + + -
an overlap and a cut behind | new root        | + + + +
an overlap and a cut behind | file            | + + + +
three cuts behind           | oldest root     | + + + -
three cuts behind           | old root        | + + + -
three cuts behind           | file of before  | + + + -
three cuts behind           | file            | + + + +
overlap, distribute         | old root        | + + + +
overlap, distribute         | file of before  | + + + +
overlap, distribute         | new root        | - - - -
overlap, distribute         | file            | + + + +
overlap, reissue            | old root        | + + + +
overlap, reissue            | new root        | - - - -
overlap, reissue            | file            | + + + +
overlap, activated          | old root        | + + + -
overlap, activated          | new root        | + + + +
overlap, activated          | file            | + + + +
overlap, done               | old root        | + + + -
overlap, done               | new root        | + + + +
overlap, done               | file            | + + + +
legacy root                 | new root        | - - + -
legacy root                 | file            | - + + +
root reissued               | old root        | - - + -
root reissued               | file of before  | - + + +
root reissued               | new root        | + + + +
root reissued               | file            | + + + +
root reissued, back         | old root        | - - + -
root reissued, back         | file of before  | - + + +
root reissued, back         | new root        | + + + +
root reissued, back         | file of between | + + + +
root reissued, back         | file            | - + + +
root rekeyed                | old root        | - - - -
root rekeyed                | file of before  | - + + +
root rekeyed                | new root        | + + + +
root rekeyed                | file            | + + + +
root rekeyed, back          | old root        | - - + -
root rekeyed, back          | file of before  | - + + +
root rekeyed, back          | new root        | - - - -
root rekeyed, back          | file of between | + + + +
root rekeyed, back          | file            | - + + +
";

/// Which chains of agents lead to the trust file, as a TLS sidecar sees it: `openssl verify -x509_strict`.
pub(super) const AGENTS: &str = "
situation                   | agent     | openssl
fresh                       | new agent | +
intermediate rotated        | old agent | +
intermediate rotated        | new agent | +
cut                         | old agent | +
cut                         | new agent | +
cut of a wide root          | old agent | +
cut of a wide root          | new agent | +
compromise                  | old agent | -
compromise                  | new agent | +
two cuts behind             | old agent | +
two cuts behind             | new agent | +
three cuts behind           | old agent | +
three cuts behind           | new agent | +
two overlaps behind         | old agent | +
two overlaps behind         | new agent | +
a cut and an overlap behind | old agent | +
a cut and an overlap behind | new agent | +
an overlap and a cut behind | old agent | +
an overlap and a cut behind | new agent | +
overlap, distribute         | old agent | +
overlap, distribute         | new agent | +
overlap, reissue            | old agent | +
overlap, reissue            | new agent | +
overlap, activated          | old agent | +
overlap, activated          | new agent | +
overlap, done               | new agent | +
legacy root                 | old agent | -
root reissued               | old agent | +
root reissued               | new agent | +
root reissued, back         | old agent | -
root reissued, back         | new agent | -
root rekeyed                | old agent | +
root rekeyed                | new agent | +
root rekeyed, back          | old agent | -
root rekeyed, back          | new agent | -
";

/// Situation, row, and the cells behind it.
pub(super) fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str, Vec<bool>)> {
    table.trim().lines().skip(1).map(|line| {
        let [situation, row, cells] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        (situation, row, cells.split(' ').map(|cell| cell == "+").collect())
    })
}

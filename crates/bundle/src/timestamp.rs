//! The time stamp over the last entry (RFC 3161).

use std::time::Duration;

use mastio_core::Stamp;
use mastio_pki::pem;
use mastio_timestamp::{Expectation, TimeStamp, TimestampError, Token};

use crate::{
    log::Signatory,
    problem::{At, Stop, fails},
    report::{Report, Step},
    verify::Trusted,
};

/// Authorities cut the time to whole seconds.
const CUT: Duration = Duration::from_secs(1);
/// How far the clocks of Mastio and authority may be apart.
const SKEW: Duration = Duration::from_secs(60);

/// The files of a time stamp.
pub(crate) struct Files<'a> {
    pub(crate) reply: Option<&'a [u8]>,
    /// PEM.
    pub(crate) chain: Option<&'a [u8]>,
}

/// The entry that is stamped.
pub(crate) struct Last<'a> {
    pub(crate) hash: &'a [u8; 32],
    pub(crate) timestamp: &'a str,
}

pub(crate) fn check(
    files: &Files<'_>,
    last: &Last<'_>,
    by: &Signatory,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::TsaSignature;
    let Some(reply) = files.reply else {
        let why = "there is no time stamp: that the entries are as old as they say rests on the checkpoint, its witnesses and the Mastio's clock";
        if trusted.require_timestamp {
            return fails(step, why);
        }
        report.not_checked(step, why);
        return Ok(());
    };
    let (stamp, dates) = signature(reply, files.chain, last, trusted)?;
    let text = format!("{} stamped the hash of the last entry at {}", stamp.authority, stamp.gen_time);
    report.holds(step, text);
    if trusted.tsa_roots.is_none() {
        let text = "whether that is a time stamping authority you trust: pass its root with --tsa-root";
        report.not_checked(step, text);
    }
    time(&stamp, last, report)?;
    certificates(&stamp, dates, by, report)
}

/// Signature and imprint, and who signed. What is wrong with dates of certificates belongs to a later step.
fn signature(
    reply: &[u8],
    chain: Option<&[u8]>,
    last: &Last<'_>,
    trusted: &Trusted,
) -> Result<(TimeStamp, Option<TimestampError>), Stop> {
    let step = Step::TsaSignature;
    let token = Token::from_response(reply).at(step)?;
    let chain = match chain {
        Some(bytes) => pem::certificates(&String::from_utf8_lossy(bytes)).at(step)?,
        None => Vec::new(),
    };
    // The token has its own; the chain may repeat them.
    let beside: Vec<_> = chain.into_iter().filter(|ca| !token.certificates().contains(ca)).collect();
    let expected = Expectation::of(last.hash).with_certificates(&beside);
    let stamp = token.verify(&expected).at(step)?;
    let Some(roots) = &trusted.tsa_roots else { return Ok((stamp, None)) };
    match token.verify(&expected.trusting(roots)) {
        Ok(stamp) => Ok((stamp, None)),
        Err(error @ (TimestampError::Expired(_) | TimestampError::NotYetValid(_))) => {
            Ok((stamp, Some(error)))
        }
        Err(error) => fails(step, error.to_string()),
    }
}

fn time(stamp: &TimeStamp, last: &Last<'_>, report: &mut Report) -> Result<(), Stop> {
    let step = Step::TsaTime;
    let event = Stamp::parse(last.timestamp).at(step)?;
    let tolerance = stamp.accuracy + SKEW;
    if stamp.gen_time.plus(tolerance) < event {
        let why =
            format!("the last event is of {event}, the time stamp of {}: a clock was wrong", stamp.gen_time);
        return fails(step, why);
    }
    report.holds(
        step,
        match event.since(stamp.gen_time) {
            Duration::ZERO => format!("{} is not before {event}", stamp.gen_time),
            by => format!(
                "{} is {:.3} s before {event}, within the {} s that clocks may differ",
                stamp.gen_time,
                by.as_secs_f64(),
                tolerance.as_secs()
            ),
        },
    );
    Ok(())
}

fn certificates(
    stamp: &TimeStamp,
    dates: Option<TimestampError>,
    by: &Signatory,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::CertificateAtTsaTime;
    if let Some(error) = dates {
        return fails(step, error.to_string());
    }
    let valid = |certificate: &mastio_pki::Certificate| {
        let until = certificate.not_after().plus(CUT);
        (certificate.not_before()..until).contains(&stamp.gen_time)
    };
    if stamp.chain.first().is_none_or(|signer| !valid(signer)) {
        return fails(
            step,
            format!("the certificate of {} was not valid at {}", stamp.authority, stamp.gen_time),
        );
    }
    let own = if valid(&by.certificate) {
        "and so was the Mastio's".to_owned()
    } else {
        format!("the Mastio's was when it announced the log key, at {}", by.at)
    };
    report.holds(step, format!("that of {} was, {own}", stamp.authority));
    Ok(())
}

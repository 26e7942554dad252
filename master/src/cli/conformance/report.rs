//! What came of the cases, for people and for programs.

use serde_json::{Value, json};

use super::case::{Fault, Level, Verdict};

/// How a case ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) id: String,
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) verdict: Verdict,
    /// The last lines that the worker wrote.
    pub(super) log: Vec<String>,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) missed: usize,
    pub(super) untested: usize,
}

impl Outcome {
    /// The word for it; a SHOULD that is not kept is `missed`, or `failed` when it counts.
    pub(super) fn word(&self, strict: bool) -> &'static str {
        match (&self.verdict, self.level) {
            (Ok(()), _) => "ok",
            (Err(Fault::Untested(_)), _) => "untested",
            (Err(Fault::Differs { .. } | Fault::Kit(_)), Level::Should) if !strict => "missed",
            (Err(Fault::Differs { .. } | Fault::Kit(_)), _) => "failed",
        }
    }

    /// One line, and on failure what was expected, what came, and what the worker said last.
    pub(super) fn text(&self, strict: bool) -> String {
        let line = format!("{:9} {:18} {}", self.word(strict), self.id, self.text);
        match &self.verdict {
            Ok(()) => line,
            Err(Fault::Untested(why)) => format!("{line}: {why}"),
            Err(Fault::Differs { expected, actual }) => {
                let log: String = self.log.iter().map(|text| format!("\n          worker    {text}")).collect();
                format!("{line}\n          expected  {expected}\n          actual    {actual}{log}")
            }
            Err(fault @ Fault::Kit(source)) => format!("{line}\n          {fault}: {source}"),
        }
    }

    pub(super) fn json(&self, strict: bool) -> Value {
        let mut value = json!({ "id": self.id, "level": level(self.level), "text": self.text, "result": self.word(strict) });
        match &self.verdict {
            Ok(()) => {}
            Err(Fault::Untested(why)) => value["reason"] = json!(why),
            Err(Fault::Differs { expected, actual }) => {
                (value["expected"], value["actual"], value["log"]) = (json!(expected), json!(actual), json!(self.log));
            }
            Err(fault @ Fault::Kit(source)) => value["reason"] = json!(format!("{fault}: {source}")),
        }
        value
    }
}

pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
    }
}

impl Tally {
    pub(super) fn of(outcomes: &[Outcome], strict: bool) -> Tally {
        let count = |word| outcomes.iter().filter(|outcome| outcome.word(strict) == word).count();
        Tally { passed: count("ok"), failed: count("failed"), missed: count("missed"), untested: count("untested") }
    }

    /// One line, with the number of rules that no case tries.
    pub(super) fn text(&self, not_tried: usize) -> String {
        let Tally { passed, failed, missed, untested } = self;
        let ended = format!("{passed} ok, {failed} failed, {missed} missed (SHOULD), {untested} untested");
        if not_tried == 0 { ended } else { format!("{ended}; {not_tried} more rules are not tried (--list)") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::{differs, untested};
    use super::*;

    fn outcome(level: Level, verdict: Verdict) -> Outcome {
        let (id, text) = if level == Level::Must { ("1.1", "does this") } else { ("1.2", "does that") };
        Outcome { id: id.into(), level, text: text.into(), verdict, log: vec!["a line".into()] }
    }

    #[test]
    fn what_should_be_counts_under_strict_alone() {
        let outcomes = || [outcome(Level::Must, Ok(())), outcome(Level::Should, differs("this", "that")), outcome(Level::Must, untested("why"))];
        assert_eq!(Tally::of(&outcomes(), false), Tally { passed: 1, failed: 0, missed: 1, untested: 1 });
        assert_eq!(Tally::of(&outcomes(), true), Tally { passed: 1, failed: 1, missed: 0, untested: 1 });
        let [_, missed, untested] = outcomes();
        assert_eq!(
            missed.text(false),
            "missed    1.2                does that\n          expected  this\n          actual    that\n          worker    a line"
        );
        assert_eq!(untested.text(false), "untested  1.1                does this: why");
        assert_eq!(missed.json(true)["result"], "failed");
        assert_eq!(Tally::of(&outcomes(), false).text(0), "1 ok, 0 failed, 1 missed (SHOULD), 1 untested");
        assert_eq!(Tally::of(&outcomes(), false).text(7), "1 ok, 0 failed, 1 missed (SHOULD), 1 untested; 7 more rules are not tried (--list)");
    }
}

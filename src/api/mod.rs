//! The kinds of `coupon-operator.dev/v1alpha1`: their types, bounds and CEL rules, nothing else.

pub mod audience;
pub mod campaign;
pub mod conditions;
pub mod coupon;
pub mod crds;
pub mod schedule;
pub mod webhook;

#[cfg(test)]
mod tests;

/// The API group of all three kinds.
pub const GROUP: &str = "coupon-operator.dev";

/// Namespaces with this label set to `true` belong to rehearsals: an operator with a set clock works
/// only there, one with the real clock everywhere else.
pub const REHEARSAL_LABEL: &str = "coupon-operator.dev/rehearsal";

/// Annotation on a Campaign, `<rule>/<key>=<n>`: a person accepts that `n` Coupons of that occurrence
/// are missing, and that whoever they belonged to may get another code.
pub const ACCEPT_MISSING_ANNOTATION: &str = "coupon-operator.dev/accept-missing";

/// Annotation on a Campaign, `<rule>/<key>=<n>`: a person accepts that `n` records of that occurrence failed, so that it
/// goes on although `guardrails.stopWhenFailedPercent` stopped it.
pub const ACCEPT_FAILED_ANNOTATION: &str = "coupon-operator.dev/accept-failed";

/// Annotation on a Campaign, `<rule>/<key>`, several separated by commas or spaces: windows that have
/// closed are opened once more, under their own keys, for whoever has no code of them.
pub const REOPEN_ANNOTATION: &str = "coupon-operator.dev/reopen";

/// Annotation on a Coupon, `<delivery>:Retry@<attempt>`, `…:Delivered@…` or `…:Abandon@…`, several separated
/// by commas or spaces, and a note after a semicolon: what a person decides of rows that are held, failed or
/// expired, once for that attempt and note.
pub const RESOLVE_ANNOTATION: &str = "coupon-operator.dev/resolve";

/// The status of a kind before a controller has seen the object: kstatus then reads "in progress",
/// since -1 is nobody's generation.
pub(crate) const fn unseen_generation() -> i64 {
    -1
}

/// Schema of a map whose values may be any JSON.
pub(crate) fn any_json_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "x-kubernetes-preserve-unknown-fields": true },
    })
}

//! Whom a rule grants a code, and for which occurrence. Pure: it knows neither Kubernetes clients nor
//! HTTP, and takes the time as an argument.

pub mod budget;
pub mod eligibility;
pub mod expression;
pub mod guardrails;
pub mod occurrence;

//! A plan, rule by rule.

mod conditions;
mod properties;
mod rules;
mod simulation;
mod world;

use super::request_key;

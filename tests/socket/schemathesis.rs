//! The served OpenAPI document against what is answered.

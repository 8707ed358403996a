package audit

// CodeCheckpointKeyChanged is a control record's that says how the keys which sign the logs, or bundles, came to be those
// that do. Its detail has `notes`: one after another, see tree.Succession.
const CodeCheckpointKeyChanged = "checkpoint_key_changed"

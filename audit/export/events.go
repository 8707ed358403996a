package export

import "sallyport/audit"

// Class is an OCSF event class, by its class_uid.
type Class int

// The classes that our records become.
const (
	EventLogActivity     Class = 1008
	Authentication       Class = 3002
	AuthorizeSession     Class = 3003
	EntityManagement     Class = 3004
	HTTPActivity         Class = 4002
	ApplicationLifecycle Class = 6002
	APIActivity          Class = 6003
)

// category is the class's category_uid.
func (c Class) category() int { return int(c) / 1000 }

// name is the class's caption.
func (c Class) name() string {
	switch c {
	case EventLogActivity:
		return "Event Log Activity"
	case Authentication:
		return "Authentication"
	case AuthorizeSession:
		return "Authorize Session"
	case EntityManagement:
		return "Entity Management"
	case HTTPActivity:
		return "HTTP Activity"
	case ApplicationLifecycle:
		return "Application Lifecycle"
	case APIActivity:
		return "API Activity"
	}
	panic("BUG: unknown OCSF class")
}

// Severity is OCSF's severity_id; syslog's and CEF's follow from it.
type Severity int

// The severities that are used.
const (
	Informational Severity = 1
	Low           Severity = 2
	Medium        Severity = 3
	High          Severity = 4
	Critical      Severity = 5
)

// Status is OCSF's status_id.
type Status int

// The statuses.
const (
	Unknown Status = 0
	Success Status = 1
	Failure Status = 2
)

// other is the activity of what a class has no word for; Event.Word says it.
const other = 99

// Event says what a kind of record is to other programs: one row for each type and code there is.
type Event struct {
	Type     audit.Type
	Code     string
	Class    Class
	Activity int    // OCSF's activity_id within the class; of HTTP Activity the method's, unless it is 99
	Word     string // OCSF's activity_name
	Severity Severity
	Status   Status // of decisions and outcomes the record's own
	Title    string // for people: message, CEF's name
	// Detail are the members of the record's detail.
	Detail []string
}

// Events are all kinds of records that the gateway, the log and the command line write.
//
// Decisions have no code; the code of an outcome says what was done to the app's answer. Codes of operators' actions are
// followed by one with "_failed" where the action then failed.
func Events() []Event {
	all := requestEvents()
	all = append(all, signInEvents()...)
	all = append(all, sessionEvents()...)
	all = append(all, operatorEvents()...)
	return append(append(all, gatewayEvents()...), logEvents()...)
}

func requestEvents() []Event {
	return []Event{
		{audit.TypeDecision, "", HTTPActivity, 0, "", Informational, Unknown, "Request decided", []string{"method", "host", "target", "peer", "why"}},
		{audit.TypeReevaluated, "", HTTPActivity, other, "Reevaluate", Informational, Unknown, "Open exchange decided again", []string{"of", "changed"}},
		{audit.TypeOutcome, "", HTTPActivity, other, "Complete", Informational, Unknown, "Request completed", nil},
		{audit.TypeOutcome, "upstream_cookie_blocked", HTTPActivity, other, "Complete", Low, Unknown, "Request completed, a cookie of the app was blocked", nil},
		{audit.TypeWindow, "", HTTPActivity, other, "Count", Low, Failure, "Refused requests counted", []string{"from", "to", "rows", "other"}},
	}
}

func signInEvents() []Event {
	detail := []string{"provider", "reported", "host", "address", "user_agent", "acr", "amr", "mfa", "joined"}
	return []Event{
		{audit.TypeControl, "sign_in", Authentication, 1, "Logon", Informational, Success, "Signed in", detail},
		{audit.TypeControl, "sign_in_failed", Authentication, 1, "Logon", Medium, Failure, "Sign-in failed", detail},
		{audit.TypeControl, "sign_out", Authentication, 2, "Logoff", Informational, Success, "Signed out everywhere", detail},
		{audit.TypeControl, "sign_out_app", Authentication, 2, "Logoff", Informational, Success, "Signed out of an app", detail},
		{audit.TypeControl, "sign_in_app", AuthorizeSession, 1, "Assign Privileges", Informational, Success, "Session carried to an app", detail},
		{audit.TypeControl, "provider_signed_out", Authentication, 2, "Logoff", Informational, Success, "Signed out at the provider", append(detail, "sid", "subject", "jti", "count", "sessions")},
		{audit.TypeControl, "provider_sign_out_failed", Authentication, 2, "Logoff", Medium, Failure, "Sign-out that a provider asked for failed", detail},
	}
}

// sessionEvents are what happens to sessions between sign-in and sign-out, and to what people make for their programs.
func sessionEvents() []Event {
	session := []string{"provider", "host", "address", "user_agent", "acr", "amr", "mfa", "kind", "reason", "added", "removed", "changed", "was", "is", "by"}
	token := []string{"id", "name", "owner", "apps", "methods", "expires", "why"}
	form := []string{"host", "method", "path", "bytes", "form", "kept_of"}
	return []Event{
		{audit.TypeControl, "session_renewed", AuthorizeSession, 1, "Assign Privileges", Informational, Success, "What the provider says of a person changed", session},
		{audit.TypeControl, "session_raised", Authentication, 1, "Logon", Informational, Success, "Proved themselves again within a session", session},
		{audit.TypeControl, "session_ended", Authentication, 2, "Logoff", Low, Success, "Session ended by the gateway", session},
		{audit.TypeControl, "session_anomaly", EntityManagement, other, "Observe", Medium, Unknown, "A session's client changed", session},
		{audit.TypeControl, "token_created", EntityManagement, 1, "Create", Low, Success, "Personal token made", token},
		{audit.TypeControl, "token_revoked", EntityManagement, 11, "Deactivate", Low, Success, "Personal token revoked", token},
		{audit.TypeControl, "token_revoked_failed", EntityManagement, 11, "Deactivate", Medium, Failure, "Revocation of a personal token failed", []string{"error"}},
		{audit.TypeControl, "form_kept", EntityManagement, 1, "Create", Informational, Success, "Form of an ended session kept", form},
		{audit.TypeControl, "form_resent", EntityManagement, other, "Send", Informational, Success, "Kept form sent again", form},
	}
}

func operatorEvents() []Event {
	failed := []string{"error"}
	sessions := []string{"id", "subject", "email", "provider", "host", "older_than_s", "all"}
	purge := []string{"app", "url", "prefix"}
	drain := []string{"app", "address", "undo"}
	return []Event{
		{audit.TypeControl, "reload", APIActivity, 3, "Update", Low, Unknown, "Reload of the configuration asked for", nil},
		{audit.TypeControl, "reload_failed", APIActivity, 3, "Update", Medium, Failure, "Reload of the configuration failed", failed},
		{audit.TypeControl, "sessions_revoke", EntityManagement, 11, "Deactivate", Low, Unknown, "Revocation of sessions asked for", sessions},
		{audit.TypeControl, "sessions_revoked", EntityManagement, 11, "Deactivate", Low, Success, "Sessions revoked", []string{"count", "sessions"}},
		{audit.TypeControl, "sessions_revoke_failed", EntityManagement, 11, "Deactivate", Medium, Failure, "Revocation of sessions failed", failed},
		{audit.TypeControl, "backup", APIActivity, 2, "Read", Low, Unknown, "Backup of the state asked for", nil},
		{audit.TypeControl, "backup_failed", APIActivity, 2, "Read", Medium, Failure, "Backup of the state failed", failed},
		{audit.TypeControl, "cache_purge", APIActivity, 4, "Delete", Informational, Unknown, "Purge of cached answers asked for", purge},
		{audit.TypeControl, "cache_purged", APIActivity, 4, "Delete", Informational, Success, "Cached answers purged", []string{"entries", "bytes"}},
		{audit.TypeControl, "cache_purge_failed", APIActivity, 4, "Delete", Medium, Failure, "Purge of cached answers failed", failed},
		{audit.TypeControl, "upstream_drain", APIActivity, 3, "Update", Low, Unknown, "Address of an app taken out of service or put back", drain},
		{audit.TypeControl, "upstream_drain_failed", APIActivity, 3, "Update", Medium, Failure, "Address of an app not taken out of service", failed},
		{audit.TypeControl, "admin_refused", APIActivity, other, "Refuse", High, Failure, "Operation by an account that may not", []string{"method", "path"}},
		{audit.TypeControl, "access_reviewed", EntityManagement, other, "Review", Informational, Success, "Access of a person reviewed", []string{"person", "app", "decision", "note"}},
		{audit.TypeControl, "log_read", EventLogActivity, other, "Read", Low, Unknown, "Audit log about to be read", []string{"command", "log", "filter", "disclose"}},
		{audit.TypeControl, "bundle_signed", EventLogActivity, 3, "Export", Low, Unknown, "Evidence bundle about to be signed", []string{"sha256"}},
		{audit.TypeControl, "bundle_signed_failed", EventLogActivity, 3, "Export", Medium, Failure, "Evidence bundle not signed", failed},
		{audit.TypeControl, "certificate_renew", APIActivity, 3, "Update", Low, Unknown, "Renewal of a certificate asked for", []string{"host"}},
		{audit.TypeControl, "certificate_renew_failed", APIActivity, 3, "Update", Medium, Failure, "Renewal of a certificate failed", failed},
		{audit.TypeControl, "certificate_revoke", APIActivity, 4, "Delete", Medium, Unknown, "Revocation of a certificate asked for", []string{"host", "reason"}},
		{audit.TypeControl, "certificate_revoke_failed", APIActivity, 4, "Delete", High, Failure, "Revocation of a certificate failed", failed},
		{audit.TypeControl, "audit_reindex", EventLogActivity, other, "Reindex", Informational, Unknown, "Searchable copy of the log about to be built anew", nil},
		{audit.TypeControl, "audit_reindex_failed", EventLogActivity, other, "Reindex", Medium, Failure, "Searchable copy of the log not built", failed},
	}
}

func gatewayEvents() []Event {
	config := []string{"why", "config", "policy", "before"}
	policy := []string{"why", "policy", "revision", "review", "before", "pinned"}
	key := []string{"key", "purpose", "id", "generation"}
	certificate := []string{"host", "serial", "not_after", "reason", "error"}
	use := []string{"run", "seq", "from", "to", "rows", "codes", "dropped", "other"}
	asked := []string{"run", "seq", "time", "op", "code", "key", "why", "uid", "pid"}
	trial := []string{"candidate", "active", "since", "compared", "dropped", "clean", "changes", "differences"}
	return []Event{
		{audit.TypeControl, "started", ApplicationLifecycle, 3, "Start", Informational, Success, "Gateway started", []string{"version", "config", "policy", "keys"}},
		{audit.TypeControl, "stopped", ApplicationLifecycle, 4, "Stop", Informational, Success, "Gateway stopped", nil},
		{audit.TypeControl, "config_changed", EntityManagement, 3, "Update", Low, Success, "Configuration or policy changed", config},
		{audit.TypeControl, "certificate_issued", EntityManagement, 1, "Create", Informational, Success, "Certificate obtained", certificate},
		{audit.TypeControl, "certificate_renewed", EntityManagement, 3, "Update", Informational, Success, "Certificate renewed", certificate},
		{audit.TypeControl, "certificate_failed", EntityManagement, 3, "Update", Medium, Failure, "Certificate not obtained", certificate},
		{audit.TypeControl, "key_use", APIActivity, other, "Count", Informational, Unknown, "Signatures of the key process counted", use},
		{audit.TypeControl, "key_refused", APIActivity, other, "Refuse", High, Failure, "Request that the key process refused", asked},
		{audit.TypeControl, "key_log_gap", APIActivity, other, "Count", Medium, Unknown, "What the key process did is not all on record", []string{"run", "seq", "why", "after"}},
		{audit.TypeControl, "key_announced", EntityManagement, 1, "Create", Informational, Success, "Key published, to be used soon", key},
		{audit.TypeControl, "key_rotated", EntityManagement, 3, "Update", Low, Success, "Key took the place of the one before", key},
		{audit.TypeControl, "key_removed", EntityManagement, 4, "Delete", Low, Success, "Key is no more", key},
		{audit.TypeControl, "checkpoint_key_changed", EntityManagement, 3, "Update", Medium, Success, "Key of the log's checkpoints, or of bundles, handed over to the next", []string{"key", "origin", "id", "generation", "why", "notes"}},
		{audit.TypeControl, "config_refused", EntityManagement, 3, "Update", Medium, Failure, "New configuration or policy refused", []string{"why", "error"}},
		{audit.TypeControl, "policy_activated", EntityManagement, 3, "Update", Low, Success, "Policy put in force", policy},
		{audit.TypeControl, "policy_refused", EntityManagement, 3, "Update", Medium, Failure, "New policy refused", []string{"why", "policy", "error"}},
		{audit.TypeControl, "shadow_started", EntityManagement, other, "Try", Informational, Success, "Trial of a candidate policy started", []string{"candidate", "revision", "active", "name", "why"}},
		{audit.TypeControl, "shadow_difference", EntityManagement, other, "Compare", Low, Unknown, "A candidate policy answers otherwise", []string{"candidate", "active", "of", "app", "change", "person", "from", "to"}},
		{audit.TypeControl, "shadow_summary", EntityManagement, other, "Compare", Informational, Unknown, "Answers of a candidate policy summed up", trial},
		{audit.TypeControl, "shadow_stopped", EntityManagement, other, "Try", Informational, Success, "Trial of a candidate policy ended", append(trial, "promoted")},
		{audit.TypeControl, "memo_difference", EntityManagement, other, "Check", High, Failure, "A remembered answer of the policy was wrong", []string{"policy", "app", "input_digest", "remembered", "evaluated"}},
	}
}

func logEvents() []Event {
	sink := []string{"sink", "log", "from", "to", "count", "ids", "why", "bytes"}
	pruned := []string{"log", "first_segment", "last_segment", "first_seq", "next_seq", "reason", "retention", "signed", "begins"}
	disk := []string{"level", "free", "size"}
	return []Event{
		{audit.TypeControl, "checkpoint_failed", EventLogActivity, other, "Sign", High, Failure, "Checkpoints of the log cannot be signed", []string{"log", "cause", "size", "signed"}},
		{audit.TypeControl, "checkpoint_resumed", EventLogActivity, other, "Sign", Medium, Success, "Checkpoints of the log are signed again", []string{"log", "since", "attempts", "signed"}},
		{audit.TypeControl, "pruning", EventLogActivity, 2, "Delete", Medium, Unknown, "Oldest records are about to be removed", pruned},
		{audit.TypeControl, "pruned", EventLogActivity, 2, "Delete", Medium, Success, "Oldest records were removed", pruned},
		{audit.TypeControl, "disk_low", EventLogActivity, other, "Disk", High, Failure, "Little space is left for the log", disk},
		{audit.TypeControl, "disk_ok", EventLogActivity, other, "Disk", Low, Success, "Enough space is left for the log again", disk},
		{audit.TypeControl, "disk_full", EventLogActivity, other, "Disk", Critical, Failure, "No space is left for the log", []string{"log", "since"}},
		{audit.TypeControl, "clock_stepped", EventLogActivity, other, "Clock stepped", Medium, Unknown, "Clock went back", []string{"from", "to"}},
		{audit.TypeControl, "sink_gap", EventLogActivity, other, "Sink gap", High, Failure, "Records were pruned before a sink had them", sink},
		{audit.TypeControl, "sink_dropped", EventLogActivity, other, "Sink dropped", High, Failure, "A sink refused records for good", sink},
		{audit.TypeControl, "sink_restarted", EventLogActivity, 8, "Restart", Medium, Unknown, "A sink starts anew", sink},
		{audit.TypeHeartbeat, "", EventLogActivity, other, "Heartbeat", Informational, Success, "Audit log is alive", []string{"log", "other", "clock", "disk", "sinks", "tree"}},
		{audit.TypeRecovered, "torn_tail", EventLogActivity, other, "Recover", High, Success, "Audit log repaired after a crash", []string{"file", "offset", "dropped_bytes", "missing_bytes"}},
		{audit.TypeRecovered, "resumed", EventLogActivity, other, "Resume", High, Success, "Audit log writable again", []string{"cause", "since", "refused", "lost_outcomes"}},
	}
}

// unknownEvent is what a record of a newer gateway is.
func unknownEvent(t audit.Type, code string) *Event {
	return &Event{Type: t, Code: code, Class: EventLogActivity, Activity: other, Word: "Record", Severity: Informational, Title: "Record of another kind"}
}

// kind is what an event is looked up by.
type kind struct {
	Type audit.Type
	Code string
}

func eventTable() map[kind]*Event {
	table := make(map[kind]*Event)
	for _, e := range Events() {
		table[kind{e.Type, e.Code}] = &e
	}
	return table
}

package export

// Requirement says which fields of our records answer one item of a standard. It supports evidence for the item; whether
// the item is met is for an assessor to say.
type Requirement struct {
	Standard string // PCI DSS 4.0, ISO/IEC 27001:2022, NIST SP 800-53 Rev. 5
	Item     string // 10.2.1.1
	Text     string // what it demands, shortened
	Records  string // which records: type or type:code, separated by blanks
	Fields   string // the fields in them, as paths, separated by blanks
}

const (
	pci  = "PCI DSS 4.0"
	iso  = "ISO/IEC 27001:2022"
	nist = "NIST SP 800-53 Rev. 5"
)

// Coverage is the table of requirements.
func Coverage() []Requirement { return append(pciEvents(), append(pciContent(), general()...)...) }

func pciEvents() []Requirement {
	return []Requirement{
		{pci, "10.2.1.1", "all individual user access to cardholder data", "decision outcome", "app session request_id"},
		{pci, "10.2.1.2", "all actions taken by anyone with administrative access", "control:sessions_revoke control:reload control:cache_purge control:upstream_drain control:backup", "actor.kind actor.id code time"},
		{pci, "10.2.1.3", "all access to audit logs", "control:log_read", "actor.id detail.command detail.log detail.filter"},
		{pci, "10.2.1.4", "all invalid logical access attempts", "control:sign_in_failed", "reason time detail.address"},
		{pci, "10.2.1.4", "all invalid logical access attempts: requests", "decision:deny decision:reject", "effect reason time"},
		{pci, "10.2.1.4", "all invalid logical access attempts: those of strangers above a rate", "window", "detail.rows detail.from detail.to"},
		{pci, "10.2.1.5", "all changes to identification and authentication credentials", "control:sign_in control:sign_out control:sessions_revoked", "actor.id code time"},
		{pci, "10.2.1.6", "all initialization, starting, stopping or pausing of audit logs", "control:started control:stopped control:pruned recovered:resumed recovered:torn_tail", "boot.id boot.n code time"},
		{pci, "10.2.1.7", "all creation and deletion of system-level objects", "control:config_changed control:cache_purge", "actor.id detail time"},
		{pci, "10.2.1.7", "all creation and deletion of system-level objects: policies", "control:config_changed", "detail.config detail.policy detail.before"},
	}
}

func pciContent() []Requirement {
	const item = "10.2.2"
	return []Requirement{
		{pci, item, "user identification", "decision", "input.subject.id input.subject.email session"},
		{pci, item, "user identification: administrators and sign-in", "control:sessions_revoke control:sign_in", "actor.id actor.name"},
		{pci, item, "type of event", "decision outcome control:sign_in window heartbeat recovered:resumed", "type"},
		{pci, item, "date and time", "decision outcome control:sign_in window heartbeat recovered:resumed", "time"},
		{pci, item, "success and failure indication", "decision", "effect reason"},
		{pci, item, "success and failure indication: what became of the request", "outcome", "outcome.status"},
		{pci, item, "origination of event", "decision", "input.context.client.ip replica"},
		{pci, item, "origination of event: sign-in", "control:sign_in", "actor.address"},
		{pci, item, "identity or name of affected data, component, resource or service", "decision", "app input.resource.id input.resource.host input.resource.path"},
	}
}

func general() []Requirement {
	const a815, au3 = "A.8.15", "AU-3"
	return []Requirement{
		{iso, a815, "user ids", "decision control:sign_in", "id"},
		{iso, a815, "user ids of those who asked", "decision", "input.subject.id"},
		{iso, a815, "system activities", "control:started control:stopped control:config_changed", "code time"},
		{iso, a815, "dates, times and details of relevant events", "decision control:sign_in control:sign_out", "time"},
		{iso, a815, "device identity, system identifier and location", "decision", "input.subject.device.id replica input.context.client.zone"},
		{iso, a815, "network addresses and protocols", "decision", "input.context.client.ip input.action.protocol input.context.tls.version"},
		{iso, a815, "use of privileges, changes to configuration, access to logs", "control:config_changed control:log_read control:reload", "actor.id code"},
		{iso, a815, "protected against tampering and gaps", "decision control:sign_in heartbeat", "seq log boot.n"},
		{nist, au3 + "a", "what type of event occurred", "decision control:sign_in", "type"},
		{nist, au3 + "b", "when the event occurred", "decision outcome control:sign_in", "time"},
		{nist, au3 + "c", "where the event occurred", "decision", "replica app input.resource.host"},
		{nist, au3 + "d", "source of the event", "decision", "input.context.client.ip input.context.request.user_agent"},
		{nist, au3 + "d", "source of the event: administration and sign-in", "control:sign_in", "actor.address detail.user_agent"},
		{nist, au3 + "e", "outcome of the event", "decision", "effect reason decision"},
		{nist, au3 + "e", "outcome of the event: the answer", "outcome", "outcome.status outcome.of"},
		{nist, au3 + "f", "identity of individuals, subjects or objects", "decision", "input.subject.id input.resource.id policy.digest"},
	}
}

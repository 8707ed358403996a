package admin

import "time"

// Status describes a running gateway.
type Status struct {
	Version string        `json:"version"`
	Started time.Time     `json:"started"`
	Ready   bool          `json:"ready"`        // requests are served
	Why     string        `json:"why,omitzero"` // why not
	Config  ConfigStatus  `json:"config"`
	Policy  PolicyStatus  `json:"policy"`
	Keys    KeyStatus     `json:"keys"`
	Audit   AuditStatus   `json:"audit"`
	Session SessionStatus `json:"sessions"`
	Cache   CacheStatus   `json:"cache"`
	Spool   SpoolStatus   `json:"spool"`

	Certificates      []Certificate     `json:"certificates"`
	Renewals          []Renewal         `json:"renewals"` // certificates that are obtained from an authority
	ClientAuthorities []ClientAuthority `json:"client_authorities"`
	Providers         []Provider        `json:"providers"`
	Upstreams         []Upstream        `json:"upstreams"`
}

// ConfigStatus tells which configuration is in effect, and what became of the last attempt to change it.
type ConfigStatus struct {
	Path   string    `json:"path"`
	Digest string    `json:"digest"` // of the file in effect
	Loaded time.Time `json:"loaded"`
	// Error is why the last reload failed, and Failed is when; empty after a reload that succeeded.
	Error  string    `json:"error,omitzero"`
	Failed time.Time `json:"failed,omitzero"`
}

// PolicyStatus names the policy in force, and says what stands in the way of another one.
type PolicyStatus struct {
	Digest   string `json:"digest"`
	Revision string `json:"revision,omitzero"`
	// Pinned is set while an operator holds the policy in force, whatever the configuration says.
	Pinned *PolicyPin `json:"pinned,omitzero"`
	// Configured is the digest of the policy that the configuration leads to, where that is another one; empty while
	// it cannot be told.
	Configured string `json:"configured,omitzero"`
	// Error is why the last policy that was offered did not come into force, and Failed is when; empty after one that did.
	Error  string    `json:"error,omitzero"`
	Failed time.Time `json:"failed,omitzero"`
	// Candidate is the digest of the policy that is tried beside this one; empty while none is.
	Candidate string `json:"candidate,omitzero"`
}

// KeyStatus tells how the key process is reached.
type KeyStatus struct {
	Mode  string `json:"mode"` // "socket" or "child process (development)"
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitzero"` // why not
}

// AuditStatus tells how far the logs are.
type AuditStatus struct {
	Healthy   bool   `json:"healthy"`
	Why       string `json:"why,omitzero"` // why not
	Decisions uint64 `json:"decisions"`    // records in the decision log
	Control   uint64 `json:"control"`      // records in the control log

	SignedDecisions uint64       `json:"signed_decisions"` // records that the last signed checkpoint covers
	SignedControl   uint64       `json:"signed_control"`
	Sinks           []SinkStatus `json:"sinks"`
}

// SinkStatus tells how one receiver of audit records is doing.
type SinkStatus struct {
	Name      string    `json:"name"`
	Lag       uint64    `json:"lag_records"` // recorded and not delivered yet
	Delivered uint64    `json:"delivered"`   // since the start
	Failing   time.Time `json:"failing_since,omitzero"`
	Error     string    `json:"error,omitzero"`
}

// SessionStatus counts sign-in sessions.
type SessionStatus struct {
	Active int `json:"active"`
}

// CacheStatus sums up the apps' stored answers.
type CacheStatus struct {
	Enabled bool  `json:"enabled"` // there is memory for it
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Hits    int64 `json:"hits"`   // since the start, stale and revalidated ones included
	Misses  int64 `json:"misses"` // since the start
}

// SpoolStatus tells what waits for slow clients.
type SpoolStatus struct {
	Bodies  int64 `json:"bodies"`
	Memory  int64 `json:"memory_bytes"`
	Disk    int64 `json:"disk_bytes"`
	Stalled int64 `json:"stalled"` // answers that hold their app, for want of room
}

// Certificate is one certificate that handshakes can be answered with, or that the gateway itself shows to apps.
type Certificate struct {
	File     string    `json:"file"`
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after"`
	DaysLeft int       `json:"days_left"` // whole days; negative since it expired
	State    string    `json:"state"`     // valid, expires_soon (within 30 days) or expired
	Key      string    `json:"key"`       // its name in the key process
}

// ClientAuthority is one authority whose client certificates count.
type ClientAuthority struct {
	File       string    `json:"file"`
	Subject    string    `json:"subject"`
	NotAfter   time.Time `json:"not_after"`
	Revocation string    `json:"revocation,omitzero"`  // file of its revocation list; empty: there is none
	NextUpdate time.Time `json:"next_update,omitzero"` // of the list: after that its certificates do not count
	Revoked    int       `json:"revoked"`              // certificates on the list
	Counts     bool      `json:"counts"`               // its certificates count now
}

// Provider is one OpenID provider.
type Provider struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitzero"` // why not, and since when
}

// Upstream is one address of one app.
type Upstream struct {
	App      string    `json:"app"`
	ID       string    `json:"id"`
	URL      string    `json:"url"`               // as configured
	Resolved string    `json:"resolved,omitzero"` // what its name stands for now
	Serving  bool      `json:"serving"`           // it gets requests
	State    string    `json:"state"`             // healthy, or how else it is
	Backup   bool      `json:"backup,omitzero"`
	Weight   int       `json:"weight"`
	Open     int64     `json:"open"` // requests under way
	Waiting  int64     `json:"waiting"`
	Requests uint64    `json:"requests"`
	Failures uint64    `json:"failures"`
	Retries  uint64    `json:"retries"`
	Latency  float64   `json:"latency_s"` // as the balancer sees it
	Error    string    `json:"last_error,omitzero"`
	Failed   time.Time `json:"last_failed,omitzero"`
}

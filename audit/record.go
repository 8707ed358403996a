package audit

import (
	"encoding/json"
	"errors"
	"time"
)

// Version is the version of records that this package writes, and the only one it reads.
const Version = 1

// MaxRecord bounds a record's JSON in bytes: 60 KiB, so that a record with its proof fits a 64 KiB entry of any tool.
const MaxRecord = 60 << 10

// ErrInvalid says that a record cannot be written as it is: its type is unknown, one of its raw JSON fields is not
// well-formed, or it is larger than MaxRecord. It is a mistake of the caller, and nothing was written.
var ErrInvalid = errors.New("invalid audit record")

// Type says what a record records.
type Type string

// The types of records.
const (
	TypeDecision    Type = "decision"    // one request was allowed, denied or rejected
	TypeReevaluated Type = "reevaluated" // a long-lived exchange was decided again; names the first in outcome.of
	TypeOutcome     Type = "outcome"     // what became of an allowed request
	TypeControl     Type = "control"     // sign-in, sign-out, reload, revocation, key use, read of the log, …
	TypeHeartbeat   Type = "heartbeat"   // nothing happened, and we were there
	TypeRecovered   Type = "recovered"   // the log was repaired after a crash or was unavailable for a while
	TypeWindow      Type = "window"      // counts of refusals that have no record each
)

// Effect is what a decision did.
type Effect string

// The effects of decisions.
const (
	Allow  Effect = "allow"
	Deny   Effect = "deny"
	Reject Effect = "reject" // refused before policy was asked: protocol, limits
)

// Codes that the log itself writes.
const (
	// CodeTornTail is the code of a recovered record that names an incomplete last batch dropped at start.
	CodeTornTail = "torn_tail"
	// CodeResumed is the code of a recovered record that ends a time in which nothing could be written.
	CodeResumed = "resumed"
	// CodeClockStepped is the code of a control record that notes the clock going back by more than a second.
	CodeClockStepped = "clock_stepped"
	// NotForwarded is the error of an outcome record for a record that became durable after its caller had been told
	// that it did not: what the record allowed was never done.
	NotForwarded = "not_forwarded"
)

// Record is one entry of a log. The JSON object has the fields in this order and leaves out what is empty.
//
// V, ID, Log, Seq, Boot, Time, Replica and InputDigest are the log's to fill; what a caller puts there is ignored.
// Strings may hold any bytes: what is not printable text is escaped when written. Document, when set, is written as Input,
// which then does not count. Input, Decision and Detail must be
// well-formed JSON; they are stored as they are, except that unprintable characters become escapes of the same meaning
// and line breaks between tokens go.
type Record struct {
	V           int             `json:"v"`
	ID          string          `json:"id"`            // UUIDv7
	Log         string          `json:"log"`           // "decision" or "control"
	Seq         uint64          `json:"seq"`           // from 0, without gaps, across boots
	Boot        Boot            `json:"boot"`          // which run of the gateway wrote it
	Type        Type            `json:"type"`          // see the constants
	Code        string          `json:"code,omitzero"` // what kind of control, recovered or reject record
	Time        time.Time       `json:"time"`          // wall clock, UTC; data: only Seq orders
	Replica     string          `json:"replica"`       // which gateway of a fleet
	RequestID   string          `json:"request_id,omitzero"`
	Session     string          `json:"session,omitzero"` // the session's public id
	App         string          `json:"app,omitzero"`
	Effect      Effect          `json:"effect,omitzero"`
	Reason      string          `json:"reason,omitzero"`
	Input       json.RawMessage `json:"input,omitzero"`        // what the policy was asked, complete
	Document    Document        `json:"-"`                     // Input, to be written by itself; nil in records that were read
	InputDigest string          `json:"input_digest,omitzero"` // "sha256:" and hex of the bytes of Input as stored
	Policy      Policy          `json:"policy,omitzero"`
	Decision    json.RawMessage `json:"decision,omitzero"` // what the policy answered
	Memo        bool            `json:"memo,omitzero"`     // the answer was remembered, not computed
	Outcome     *Outcome        `json:"outcome,omitzero"`
	Actor       *Actor          `json:"actor,omitzero"`  // who did what a control record records
	Detail      json.RawMessage `json:"detail,omitzero"` // what the type and code need beyond these fields
}

// Document is a JSON value that writes itself, straight into the record.
//
// AppendJSON appends exactly one value, well-formed and without white space around it, and always the same bytes. That it
// is well-formed is not checked again where it consists of visible ASCII and spaces, so this is for types whose encoder is
// tested to write nothing else; foreign text goes into Input. Nothing it writes can leave the record's line.
type Document interface {
	AppendJSON(dst []byte) []byte
}

// Boot names one run of a gateway: ID is random, N grows by at least one from run to run of a directory.
type Boot struct {
	ID string `json:"id"`
	N  uint64 `json:"n"`
}

// Policy names the effective bundle that decided; [Audit.KeepPolicy] keeps its archive.
type Policy struct {
	Digest   string `json:"digest"`
	Revision string `json:"revision,omitzero"`
}

// Outcome says what became of an allowed request.
type Outcome struct {
	Of         string `json:"of"`          // ID of the decision record
	Status     int    `json:"status"`      // what the client was sent; 0 when nothing was
	BytesIn    int64  `json:"bytes_in"`    // body bytes from the client
	BytesOut   int64  `json:"bytes_out"`   // body bytes to the client
	DurationNS int64  `json:"duration_ns"` // from the request's begin, in nanoseconds

	Cache    string `json:"cache,omitzero"`    // what the cache did: hit, miss, stale, revalidated or bypass; empty when none was asked
	Upstream string `json:"upstream,omitzero"` // address of the endpoint that answered or was tried last, as configured
	Attempts int    `json:"attempts,omitzero"` // how often an endpoint was tried; 0 and 1 are left out
	Error    string `json:"error,omitzero"`
}

// Actor is who caused a control record.
type Actor struct {
	Kind    string `json:"kind"`             // "user", "service", "os" (an account of this machine), "gateway"
	ID      string `json:"id"`               // provider|subject, or uid:1000
	Name    string `json:"name,omitzero"`    // e-mail address or account name: for people, not for comparing
	Address string `json:"address,omitzero"` // where from
}

func (t Type) known() bool {
	switch t {
	case TypeDecision, TypeReevaluated, TypeOutcome, TypeControl, TypeHeartbeat, TypeRecovered, TypeWindow:
		return true
	}
	return false
}

package verify

import (
	"cmp"
	"slices"
	"time"

	"sallyport/audit/tree"
)

// Result is the answer in one word. Its number is the command's exit code.
type Result int

// The results.
const (
	Pass       Result = 0 // all of it is signed and complete
	Tampered   Result = 1 // something contradicts a hash, a sequence, a signature or a signed checkpoint
	CannotRun  Result = 2 // it could not be looked at
	Untrusted  Result = 3 // the signatures are by nobody who is trusted
	Incomplete Result = 4 // something without which it cannot be checked is not there
	Gaps       Result = 5 // pass, with gaps that are stated
)

// String is the verdict for people.
func (r Result) String() string {
	switch r {
	case Pass:
		return "PASS"
	case Tampered:
		return "TAMPERED"
	case Untrusted:
		return "UNTRUSTED"
	case Incomplete:
		return "INCOMPLETE"
	case Gaps:
		return "PASS WITH GAPS"
	}
	return "CANNOT RUN"
}

// MarshalText is the verdict in lower case.
func (r Result) MarshalText() ([]byte, error) {
	switch r {
	case Pass:
		return []byte("pass"), nil
	case Tampered:
		return []byte("tampered"), nil
	case Untrusted:
		return []byte("untrusted"), nil
	case Incomplete:
		return []byte("incomplete"), nil
	case Gaps:
		return []byte("gaps"), nil
	}
	return []byte("cannot_run"), nil
}

// gravity orders results: the gravest finding is the verdict.
func (r Result) gravity() int {
	return slices.Index([]Result{Pass, Gaps, Incomplete, Untrusted, CannotRun, Tampered}, r)
}

// Class says what kind of thing a finding is about.
type Class string

// The classes of findings.
const (
	ClassSegment    Class = "segment"    // a segment's header, frames or place in the log
	ClassSequence   Class = "sequence"   // seq, boot or log of records
	ClassRecord     Class = "record"     // a record that is not as the log writes it
	ClassRoot       Class = "root"       // records and a signed root
	ClassSignature  Class = "signature"  // signed notes
	ClassOrigin     Class = "origin"     // the name that a checkpoint is signed under
	ClassRollback   Class = "rollback"   // a log that was longer once
	ClassAnchor     Class = "anchor"     // what one log says of the other
	ClassRun        Class = "run"        // what the two logs have of a run of the gateway
	ClassPruned     Class = "pruned"     // the begin of a log is not there
	ClassTail       Class = "tail"       // records after the last checkpoint, or an incomplete batch
	ClassOutage     Class = "outage"     // a time in which nothing could be written
	ClassSilence    Class = "silence"    // heartbeats that are missing
	ClassClock      Class = "clock"      // the clock went back and no record says so
	ClassTile       Class = "tile"       // hash tiles
	ClassPolicy     Class = "policy"     // policy archives
	ClassDecision   Class = "decision"   // a decision that does not follow from its input
	ClassBundle     Class = "bundle"     // an evidence bundle's files and manifest
	ClassUnknown    Class = "unknown"    // files that belong to no audit log
	ClassUnreadable Class = "unreadable" // files that could not be read
)

// Finding is one thing that is worth telling.
type Finding struct {
	Severity Result `json:"severity"` // what the verdict is if nothing graver is found; Pass is a remark
	Class    Class  `json:"class"`
	Log      string `json:"log,omitzero"`
	Seq      uint64 `json:"seq,omitzero"`    // of the record, or the first of several
	File     string `json:"file,omitzero"`   // below the path that was checked
	Offset   int64  `json:"offset,omitzero"` // in the file
	Text     string `json:"text"`            // a sentence
}

// Gap is a stretch of which the report says that it is not covered, and why.
type Gap struct {
	Log   string    `json:"log"`
	Class Class     `json:"class"`
	First uint64    `json:"first"`         // seq of the first record of the stretch, or after it where it holds none
	End   uint64    `json:"end"`           // one more than the last; First where it holds none
	From  time.Time `json:"from,omitzero"` // as far as known
	To    time.Time `json:"to,omitzero"`
}

// Checkpoint is a signed checkpoint that was compared with the records.
type Checkpoint struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Root   tree.Hash `json:"root"`
	From   string    `json:"from"` // where it was found: a file, "line 7 of the trust file", or a heartbeat of the other log
}

// LogReport is what was found in one log.
type LogReport struct {
	Log         string      `json:"log"`
	Origin      string      `json:"origin,omitzero"` // of its newest checkpoint
	First       uint64      `json:"first"`           // seq of the oldest record that is there
	Size        uint64      `json:"size"`            // one more than the seq of the newest
	Signed      uint64      `json:"signed"`          // records that a trusted checkpoint covers, which holds
	Segments    int         `json:"segments"`
	Boots       int         `json:"boots"`       // runs of the gateway
	Checkpoints uint64      `json:"checkpoints"` // that were compared with the records
	Receipts    int         `json:"receipts"`    // of them, from the trust file
	Anchors     uint64      `json:"anchors"`     // of them, from the other log's heartbeats
	Tiles       uint64      `json:"tiles"`       // hash tiles that were compared
	From        time.Time   `json:"from,omitzero"`
	To          time.Time   `json:"to,omitzero"` // times of the oldest and the newest record
	Newest      *Checkpoint `json:"newest,omitzero"`
}

// Report is what Run found.
type Report struct {
	Path      string        `json:"path"`
	Kind      string        `json:"kind"` // "directory" or "bundle"
	Result    Result        `json:"result"`
	Logs      []*LogReport  `json:"logs"`
	Findings  []Finding     `json:"findings"`
	Omitted   uint64        `json:"omitted,omitzero"` // findings of a kind beyond the hundred that are listed
	Gaps      []Gap         `json:"gaps,omitzero"`
	Records   uint64        `json:"records"`
	Bytes     int64         `json:"bytes"` // of records
	Rederived uint64        `json:"rederived,omitzero"`
	Policies  int           `json:"policies"` // archives whose digest was compared
	Elapsed   time.Duration `json:"elapsed_ns"`
	PerSecond float64       `json:"records_per_second"`
	Bundle    *BundleReport `json:"bundle,omitzero"`

	listed map[alike]int
}

// BundleReport is what an evidence bundle says of itself, as far as it was confirmed.
type BundleReport struct {
	Created  time.Time `json:"created"`
	Who      string    `json:"who"`
	Query    string    `json:"query,omitzero"`
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`
	SignedBy string    `json:"signed_by,omitzero"` // name of the manifest key; empty when it is not trusted
	Matching uint64    `json:"matching"`
	Withheld uint64    `json:"withheld"` // records of which only the hash is in the bundle
}

// ExitCode is the command's.
func (r *Report) ExitCode() int { return int(r.Result) }

// maxAlike bounds how many findings of one class and severity are listed: what a hostile directory can make us remember.
// The first of each is always there, and all of them count.
const maxAlike = 100

// alike is what findings have in common.
type alike struct {
	class    Class
	severity Result
}

func (r *Report) add(f Finding) {
	if f.Severity.gravity() > r.Result.gravity() {
		r.Result = f.Severity
	}
	kind := alike{f.Class, f.Severity}
	if r.listed == nil {
		r.listed = make(map[alike]int)
	}
	if r.listed[kind] == maxAlike {
		r.Omitted++
		return
	}
	r.listed[kind]++
	r.Findings = append(r.Findings, f)
}

// sort puts the gravest findings first, and then in the order of the logs.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity.gravity(), a.Severity.gravity()), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Seq, b.Seq))
	})
}

package wire

import (
	"encoding/binary"
	"errors"
	"time"
)

// SigningLog is an answer to `signing_log`: what keyd signed and refused, oldest first, after the entry that was asked
// for. It never holds a message or a byte of a key.
type SigningLog struct {
	Boot    string         `json:"boot"`    // random, of one run of keyd: another one means that keyd began anew, and so did Seq
	Oldest  uint64         `json:"oldest"`  // Seq of the oldest entry that keyd still has; Next while it has none
	Next    uint64         `json:"next"`    // Seq of the entry that will be made next
	Entries []SigningEntry `json:"entries"` // their Seqs follow on each other; not all there are, if the last one's is not Next−1
}

// SigningEntry is either a refusal or a window. Entries are numbered from 1 without gaps, so that a reader notices each
// one that keyd had to drop before it came.
type SigningEntry struct {
	Seq     uint64          `json:"seq"`
	Refusal *SigningRefusal `json:"refusal,omitzero"`
	Window  *SigningWindow  `json:"window,omitzero"`
}

// SigningRefusal is one request that was not answered with ok.
type SigningRefusal struct {
	Time time.Time `json:"time"`
	Op   string    `json:"op"`
	Code string    `json:"code"`
	Key  string    `json:"key,omitzero"` // name; empty if the request named none that there is
	Why  string    `json:"why"`
	UID  int       `json:"uid"` // of who asked
	PID  int       `json:"pid"`
}

// SigningWindow counts all requests of some seconds. Windows in which nothing happened are not made.
type SigningWindow struct {
	From  time.Time         `json:"from"`
	To    time.Time         `json:"to"`
	Rows  []SigningRow      `json:"rows"`
	Codes map[string]uint64 `json:"codes,omitzero"` // refusals by code
	// Dropped are the refusals among them that have no entry of their own, because there were too many.
	Dropped uint64 `json:"dropped,omitzero"`
	// Other is what the rows leave out, because there were too many.
	Other SigningCount `json:"other,omitzero"`
}

// SigningRow is what one key did in one operation.
type SigningRow struct {
	Key string `json:"key,omitzero"` // name; empty for requests that named none
	Op  string `json:"op"`
	SigningCount
}

// SigningCount counts requests by how they ended.
type SigningCount struct {
	Signed  uint64 `json:"signed,omitzero"`
	Refused uint64 `json:"refused,omitzero"`
}

// AfterBody is the body of `signing_log`: the Seq of the last entry that the client has, 0 for none.
func AfterBody(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// ParseAfterBody reads what AfterBody wrote.
func ParseAfterBody(body []byte) (uint64, error) {
	if len(body) != 8 {
		return 0, errors.New("not 8 bytes of a sequence number")
	}
	return binary.BigEndian.Uint64(body), nil
}

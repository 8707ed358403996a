package wire

import "time"

// Status is the answer to `status`: what keyd is, what it did and what holds it.
type Status struct {
	Mode        string            `json:"mode"` // "socket", or "child" of a gateway in a demo or in development
	PID         int               `json:"pid"`
	UID         int               `json:"uid"`
	Started     time.Time         `json:"started"`
	Connections int               `json:"connections"`   // open now, the asking one included
	Turned      uint64            `json:"peers_refused"` // connections closed unheard: foreign uid, or too many at once
	Refusals    map[string]uint64 `json:"refusals"`      // requests answered with a refusal, by code
	Alarms      uint64            `json:"alarms"`        // requests for another purpose than their key's: nobody honest makes any
	LastAlarm   *SigningRefusal   `json:"last_alarm,omitzero"`
	Keys        []KeyStatus       `json:"keys"`    // in the order of keyd.yaml
	Sandbox     []Fact            `json:"sandbox"` // measured when asked
}

// KeyStatus is one key's line in a Status.
type KeyStatus struct {
	Name    string       `json:"name"`
	Purpose Purpose      `json:"purpose"`
	ID      string       `json:"id"`
	Names   []string     `json:"names,omitzero"`
	Signed  uint64       `json:"signed"`
	Refused uint64       `json:"refused"`
	Notes   []NoteStatus `json:"notes,omitzero"`
}

// NoteStatus is one name under which a key signs notes.
type NoteStatus struct {
	Name        string `json:"name"`                  // in use, or as configured if Problem says why it is not in use
	VerifierKey string `json:"verifier_key,omitzero"` // C2SP signed-note
	Size        uint64 `json:"size,omitzero"`         // of the last checkpoint signed
	Root        string `json:"root,omitzero"`         // base64; empty if none was signed
	Problem     string `json:"problem,omitzero"`      // why nothing is signed under it
}

// Fact is one protection and whether it holds in the running process.
type Fact struct {
	Name   string `json:"name"`
	Holds  bool   `json:"holds"`
	Detail string `json:"detail,omitzero"` // why not, or how
}

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
	Reload      *Reload           `json:"reload,omitzero"`
}

// Reload is how the last reading of keyd.yaml went that was not the first.
type Reload struct {
	Count uint64    `json:"count"` // of readings since the start
	Time  time.Time `json:"time"`
	Error string    `json:"error,omitzero"` // why it changed nothing
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
	// Stage is that of the generation: current, announced, retiring, pending (a certificate is asked for), or making and
	// destroying, which are over in a moment unless Problem says why not. Until is when the next begins.
	Generation int       `json:"generation"`
	Stage      string    `json:"stage"`
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	Problem    string    `json:"problem,omitzero"`
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

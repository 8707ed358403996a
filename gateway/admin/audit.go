package admin

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"sallyport/audit/report"
)

// Reading says what someone is about to read of the audit logs, in the words of the command line.
type Reading struct {
	Command  string            `json:"command"`           // tail, query, export, bundle, verify, prove, report, …
	Log      string            `json:"log"`               // decision, control or both
	Filter   map[string]string `json:"filter,omitempty"`  // the options that narrow it
	Disclose bool              `json:"disclose,omitzero"` // personal data is wanted as it is: that takes a permission
}

// Manifest is an evidence bundle's manifest, to be signed.
type Manifest struct {
	SHA256 string `json:"sha256"` // of manifest.json, in hex
}

// SignedNote is a signed note (C2SP signed-note).
type SignedNote struct {
	Note string `json:"note"`
}

// TrustKeys are what an auditor's trust file begins with.
type TrustKeys struct {
	Keys []string `json:"keys"` // verifier keys (C2SP signed-note)
}

// Auditing is what auditors ask of a running gateway beside its files. All methods may run at once.
type Auditing interface {
	// SignManifest has the key process sign the SHA-256 of an evidence bundle's manifest.
	SignManifest(ctx context.Context, sha256 [32]byte) (note []byte, err error)
	// VerifierKeys are the keys that vouch for checkpoints and manifests.
	VerifierKeys(ctx context.Context) ([]string, error)
	// Reindex builds the searchable copy of the log anew, and returns when it is complete.
	Reindex(ctx context.Context) error
}

func (s *operatorServer) announceRead(w http.ResponseWriter, r *http.Request) {
	var what Reading
	if !read(w, r, &what) {
		return
	}
	if p, known := peerFrom(r); what.Disclose && !(known && p.may(s.disclose)) {
		s.note(r, CodeRefused, what)
		fail(w, http.StatusForbidden, "this account may not see personal data as it is: root, the gateway's own account and the members of admin.disclose_group may. "+
			"Without --disclose it is redacted")
		return
	}
	if s.recorded(w, r, CodeRead, what) {
		answer(w, struct{}{})
	}
}

func (s *operatorServer) review(w http.ResponseWriter, r *http.Request) {
	var what report.Review
	if !read(w, r, &what) {
		return
	}
	if err := what.Check(); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if s.recorded(w, r, report.CodeReviewed, what) {
		answer(w, struct{}{})
	}
}

func (s *operatorServer) signManifest(w http.ResponseWriter, r *http.Request) {
	var what Manifest
	if !read(w, r, &what) {
		return
	}
	sum, err := hex.DecodeString(what.SHA256)
	if err != nil || len(sum) != 32 {
		fail(w, http.StatusBadRequest, "sha256 is no SHA-256 in hex")
		return
	}
	if !s.recorded(w, r, CodeBundle, what) {
		return
	}
	note, err := s.Auditing.SignManifest(r.Context(), [32]byte(sum))
	if err != nil {
		s.failed(w, r, CodeBundle, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, SignedNote{string(note)})
}

func (s *operatorServer) trustKeys(w http.ResponseWriter, r *http.Request) {
	keys, err := s.Auditing.VerifierKeys(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, TrustKeys{append([]string{}, keys...)})
}

// reindexTime bounds how long a caller waits for a reindex of a log of years.
const reindexTime = 6 * time.Hour

func (s *operatorServer) reindex(w http.ResponseWriter, r *http.Request) {
	if !read(w, r, &struct{}{}) || !s.recorded(w, r, CodeReindex, nil) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), reindexTime)
	defer cancel()
	if err := s.Auditing.Reindex(ctx); err != nil {
		s.failed(w, r, CodeReindex, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, struct{}{})
}

package test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/policy/review/corpus"
	"sallyport/policy/review/replay"
	"sallyport/test/harness"
)

// What a gateway recorded leaves the machine without names, signed, and says on its own what a change of policy changes.
func TestCorpusOfRecordedTraffic(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 10)
	a := newAuditor(t, s)
	file := filepath.Join(t.TempDir(), "corpus.jsonl")
	var header corpus.Header
	if err := json.Unmarshal([]byte(a.must("audit", "corpus", "--out", file, "--json")), &header); err != nil {
		t.Fatal(err)
	}
	if header.Requests < 10 || header.Entries == 0 || header.Policy != policyInForce(a) {
		t.Errorf("got %+v, want the requests under the active policy", header)
	}
	a.wants(0, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "127.0.0.1") || strings.Contains(string(text), "ines") {
		t.Errorf("it shows who asked:\n%s", text)
	}
	wantParity(a, "all", header.Requests)
	wantParity(a, file, header.Requests)
	for _, at := range []int{len(text) / 3, len(text) / 2, len(text) - 20} {
		changed := bytes.Clone(text)
		changed[at] ^= 1
		altered := filepath.Join(t.TempDir(), "altered.jsonl")
		if err := os.WriteFile(altered, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := a.verify(altered); code != 1 && code != 3 {
			t.Errorf("a bit turned at %d: exit %d: %s", at, code, out)
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
}

// wantParity replays what was recorded and wants every answer to come out again.
func wantParity(a *auditor, recorded string, requests int64) {
	a.t.Helper()
	var report struct {
		Complete bool
		Findings []json.RawMessage
		Replay   struct{ Parity replay.Parity }
	}
	if err := json.Unmarshal([]byte(a.must("policy", "diff", "--from", "active", "--to", "active", "--replay", recorded, "--json")), &report); err != nil {
		a.t.Fatal(err)
	}
	p := report.Replay.Parity
	if !p.Holds() || p.Checked < requests || p.Unchecked != 0 || !report.Complete || len(report.Findings) != 0 {
		a.t.Errorf("%s: got %+v, want all of %d answers to come out again, and nothing else", recorded, report, requests)
	}
}

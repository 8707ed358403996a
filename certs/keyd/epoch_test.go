package keyd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// A log that came back shorter goes on under another name, and says from where.
func TestNewEpochStatesWhatWasSigned(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...) // the first's group may reach the socket
	p := k.Start(t)
	s := signer{dial(t, k), id(t, all[0])}
	log, anew := keydtest.NewLog(t, "log"), keydtest.NewLog(t, "anew")
	s.must(log, decision, 0, 9)
	if out, err := k.TryNewEpoch("--log", "decision"); err == nil || !strings.Contains(out, "another keyd runs") {
		t.Errorf("with keyd running: got %v %s", err, out)
	}
	p.Kill()
	if out, err := k.TryNewEpoch("--log", "decision", "--first"); err == nil {
		t.Errorf("--first with a state: %s", out)
	}
	previous := wire.Checkpoint{Origin: decision, Size: 9, Root: log.Root(9)}.PreviousLine()
	if out := k.NewEpoch(t, "--log", "decision"); !strings.Contains(out, previous) || !strings.Contains(out, decision+"/2+") {
		t.Errorf("new-epoch prints %q", out)
	}
	if out, err := k.TryNewEpoch("--log", "decision"); err == nil || !strings.Contains(out, "nothing signed under it") {
		t.Errorf("once more: got %v %s", err, out)
	}
	p = k.Start(t)
	s.peer = dial(t, k)
	next := decision + "/2"
	if code, pos := s.position(decision); code != wire.OK || pos != string(anew.Body(next, 0, previous)) {
		t.Errorf("position %s %q", code, pos)
	}
	foreign := wire.Checkpoint{Origin: decision, Size: 8, Root: log.Root(8)}.PreviousLine()
	for name, code := range map[string]wire.Code{
		"the old origin":           first(s.grow(log, decision, 9, 10)),
		"without the line":         first(s.grow(anew, next, 0, 4)),
		"another previous":         first(s.grow(anew, next, 0, 4, foreign)),
		"twice":                    first(s.grow(anew, next, 0, 4, previous, previous)),
		"an extension behind":      first(s.grow(anew, next, 0, 4, previous, "more")),
		"the one after":            first(s.grow(anew, decision+"/3", 0, 4, previous)),
		"the other log's epoch":    first(s.grow(anew, control+"/2", 0, 4, previous)),
		"as if the old went on":    first(s.grow(log, decision, 9, 9)),
		"with the manifest's name": first(s.grow(anew, "corp.example/audit/manifest/2", 0, 4)),
	} {
		if code != wire.Refused {
			t.Errorf("%s: got %s, want %s", name, code, wire.Refused)
		}
	}
	s.must(anew, next, 0, 4, previous)
	s.must(anew, next, 4, 4, previous) // the answer was lost
	s.must(anew, next, 4, 6)
	s.must(anew, next, 6, 7, previous)
	s.must(log, control, 0, 2)
	if code, _ := s.grow(anew, next, 0, 4, previous); code != wire.Conflict {
		t.Errorf("replayed: got %s, want %s", code, wire.Conflict)
	}
	out, err := exec.Command(keydtest.Binary(), "trust", "--config", k.Config).Output()
	if err != nil || strings.Count(string(out), "\n") != 4 || !strings.Contains(string(out), next+"+") {
		t.Errorf("keyd trust prints %q %v, want both epochs, the other log and the manifests", out, err)
	}
	p.Kill()
	if out := k.NewEpoch(t, "--origin", decision); !strings.Contains(out, "previous "+next+" 7 ") {
		t.Errorf("the third epoch: %s", out)
	}
}

func first(code wire.Code, _ []byte) wire.Code { return code }

// An operator whose keyd lost its state hands it a checkpoint that it signed; nothing else will do.
func TestNewEpochAfterTheStateWasLost(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, 0, []int{0}, all...)
	p := k.Start(t)
	s := signer{dial(t, k), id(t, all[0])}
	log := keydtest.NewLog(t, "log")
	_, signatures := s.grow(log, decision, 0, 5)
	body := log.Body(decision, 5)
	good := append(append(bytes.Clone(body), '\n'), signatures...)
	_, other := s.grow(log, control, 0, 5)
	p.Kill()
	state := filepath.Join(k.Dir, "state", "checkpoint-corp.example~audit~decision")
	os.WriteFile(state, []byte("rubbish"), 0o600)
	file := filepath.Join(k.Dir, "last")
	if out, err := k.TryNewEpoch("--log", "decision", "--first"); err == nil {
		t.Errorf("--first with a damaged state: %s", out)
	}
	for name, last := range map[string][]byte{
		"unsigned":      append(bytes.Clone(body), '\n'),
		"altered":       bytes.Replace(good, []byte("\n5\n"), []byte("\n6\n"), 1),
		"another log's": append(append(log.Body(control, 5), '\n'), other...),
		"rubbish":       []byte("rubbish"),
	} {
		os.WriteFile(file, last, 0o600)
		if out, err := k.TryNewEpoch("--log", "decision", "--last", file); err == nil {
			t.Errorf("%s: accepted: %s", name, out)
		}
	}
	if out, err := k.TryNewEpoch("--log", "decision"); err == nil || !strings.Contains(out, "newest signed checkpoint") {
		t.Errorf("without a word: got %v %s", err, out)
	}
	os.WriteFile(file, append(good, "— witness.example AAAAAAAAAAAA\n"...), 0o600)
	k.NewEpoch(t, "--log", "decision", "--last", file)
	k.Start(t)
	s.peer = dial(t, k)
	previous := wire.Checkpoint{Origin: decision, Size: 5, Root: log.Root(5)}.PreviousLine()
	s.must(log, decision+"/2", 0, 3, previous)
}

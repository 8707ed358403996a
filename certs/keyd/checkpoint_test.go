package keyd_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// signer is a client that asks for checkpoints of one key.
type signer struct {
	*peer
	id wire.KeyID
}

func (s signer) grow(log *keydtest.Log, origin string, from, to uint64, extensions ...string) (wire.Code, []byte) {
	s.t.Helper()
	g := wire.Growth{Old: from, Proof: log.Proof(from, to), Body: log.Body(origin, to, extensions...)}
	return s.ask(wire.OpSignCheckpoint, wire.SignBody(s.id, g.AppendText(nil)))
}

func (s signer) must(log *keydtest.Log, origin string, from, to uint64, extensions ...string) {
	s.t.Helper()
	if code, body := s.grow(log, origin, from, to, extensions...); code != wire.OK {
		s.t.Fatalf("%s from %d to %d: got %s %q", origin, from, to, code, body)
	}
}

func (s signer) position(base string) (wire.Code, string) {
	s.t.Helper()
	code, body := s.ask(wire.OpCheckpointPosition, wire.SignBody(s.id, []byte(base)))
	return code, string(body)
}

// auditKeys are a checkpoint and a manifest key.
func auditKeys(t testing.TB) []keydtest.Key { return keys(t)[6:8] }

// KEY-14: a hostile gateway gets signatures for what continues the last checkpoint, and for nothing else.
func TestKEY14OnlyGrowthIsSigned(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, 0, []int{0}, all...)
	k.Start(t)
	s := signer{dial(t, k), id(t, all[0])}
	log := keydtest.NewLog(t, "log")
	fork := log.Fork(5, "fork")
	s.must(log, decision, 0, 0)
	s.must(log, decision, 0, 3)
	s.must(log, decision, 3, 8)

	request := func(g wire.Growth) func() (wire.Code, []byte) {
		return func() (wire.Code, []byte) {
			return s.ask(wire.OpSignCheckpoint, wire.SignBody(s.id, g.AppendText(nil)))
		}
	}
	body, next := log.Body(decision, 8), log.Body(decision, 11)
	proof := log.Proof(8, 11)
	altered := append([][32]byte{{1}}, proof[1:]...)
	for name, tt := range map[string]struct {
		want wire.Code
		ask  func() (wire.Code, []byte)
	}{
		"smaller":                       {wire.Refused, request(wire.Growth{Old: 8, Body: log.Body(decision, 3)})},
		"smaller, with its proof":       {wire.Refused, request(wire.Growth{Old: 8, Proof: log.Proof(3, 8), Body: log.Body(decision, 3)})},
		"empty":                         {wire.Refused, request(wire.Growth{Old: 8, Body: log.Body(decision, 0)})},
		"another root of this size":     {wire.Refused, request(wire.Growth{Old: 8, Body: fork.Body(decision, 8)})},
		"another root, no tree of ours": {wire.Refused, request(wire.Growth{Old: 8, Body: keydtest.NewLog(t, "x").Body(decision, 8)})},
		"fork":                          {wire.Refused, request(wire.Growth{Old: 8, Proof: fork.Proof(8, 11), Body: fork.Body(decision, 11)})},
		"fork, from before it":          {wire.Conflict, request(wire.Growth{Old: 5, Proof: fork.Proof(5, 11), Body: fork.Body(decision, 11)})},
		"fork, from nothing":            {wire.Conflict, request(wire.Growth{Body: fork.Body(decision, 11)})},
		"replayed":                      {wire.Conflict, request(wire.Growth{Old: 0, Body: log.Body(decision, 3)})},
		"from the wrong size":           {wire.Conflict, request(wire.Growth{Old: 3, Proof: log.Proof(3, 11), Body: next})},
		"from the future":               {wire.Conflict, request(wire.Growth{Old: 11, Body: next})},
		"without a proof":               {wire.Refused, request(wire.Growth{Old: 8, Body: next})},
		"half a proof":                  {wire.Refused, request(wire.Growth{Old: 8, Proof: proof[:len(proof)-1], Body: next})},
		"too much of a proof":           {wire.Refused, request(wire.Growth{Old: 8, Proof: append(proof[:len(proof):len(proof)], [32]byte{}), Body: next})},
		"altered proof":                 {wire.Refused, request(wire.Growth{Old: 8, Proof: altered, Body: next})},
		"proof of another growth":       {wire.Refused, request(wire.Growth{Old: 8, Proof: log.Proof(8, 10), Body: next})},
		"as large as can be":            {wire.Refused, request(wire.Growth{Old: 8, Proof: make([][32]byte, 63), Body: wire.Checkpoint{Origin: decision, Size: wire.MaxSize}.AppendText(nil)})},
		"other origin":                  {wire.Refused, request(wire.Growth{Body: log.Body("corp.example/audit/other", 3)})},
		"epoch that is not open":        {wire.Refused, request(wire.Growth{Body: log.Body(decision+"/2", 3)})},
		"name of the manifests":         {wire.Refused, request(wire.Growth{Body: log.Body("corp.example/audit/manifest", 3)})},
		"size 0 with a root":            {wire.Refused, request(wire.Growth{Body: bytes.Replace(log.Body(control, 3), []byte("\n3\n"), []byte("\n0\n"), 1)})},
		"extension":                     {wire.Refused, request(wire.Growth{Old: 8, Proof: proof, Body: log.Body(decision, 11, "more")})},
		"previous of a first epoch":     {wire.Refused, request(wire.Growth{Old: 8, Proof: proof, Body: log.Body(decision, 11, wire.Checkpoint{Origin: control}.PreviousLine())})},
		"no body":                       {wire.Refused, request(wire.Growth{Old: 8})},
		"a proof of the first":          {wire.Refused, request(wire.Growth{Proof: proof, Body: log.Body(control, 3)})},
		"the manifest key": {wire.WrongPurpose, func() (wire.Code, []byte) {
			return s.ask(wire.OpSignCheckpoint, wire.SignBody(id(t, all[1]), wire.Growth{Old: 8, Body: body}.AppendText(nil)))
		}},
	} {
		code, answer := tt.ask()
		if code != tt.want {
			t.Errorf("%s: got %s %q, want %s", name, code, answer, tt.want)
		}
		if code == wire.Conflict && string(answer) != string(body) {
			t.Errorf("%s: the conflict is with %q, want %q", name, answer, body)
		}
	}

	if code, pos := s.position(decision); code != wire.OK || pos != string(body) {
		t.Errorf("after all this the position is %s %q, want %q", code, pos, body)
	}
	if code, _ := s.position("corp.example/audit/other"); code != wire.Refused {
		t.Errorf("position of another log: got %s", code)
	}
	if code, _ := s.ask(wire.OpCheckpointPosition, wire.SignBody(id(t, all[1]), []byte(decision))); code != wire.WrongPurpose {
		t.Errorf("position by another key: got %s", code)
	}
	s.must(log, decision, 8, 8)
	s.must(log, decision, 3, 8) // a request that was repeated because its answer was lost
	s.must(log, decision, 8, 11)
	s.must(keydtest.NewLog(t, "another log"), control, 0, 2)
	if st, err := keyd.AskStatus(k.Socket); err != nil || st.Refusals["conflict"] != 5 || st.Keys[0].Refused < 20 || st.Keys[0].Signed != 7 {
		t.Errorf("got %+v %v, want 7 signed, 5 conflicts and all refusals counted", st, err)
	}
}

// Everybody who reads signed notes reads ours.
func TestNotesVerify(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, 0, []int{0}, all...)
	k.Start(t)
	s := signer{dial(t, k), id(t, all[0])}
	log := keydtest.NewLog(t, "log")
	for i, tt := range []struct {
		name string
		text []byte
		op   wire.Op
		body []byte
	}{
		{decision, log.Body(decision, 3), wire.OpSignCheckpoint, wire.Growth{Body: log.Body(decision, 3)}.AppendText(nil)},
		{"corp.example/audit/manifest", wire.ManifestText("corp.example/audit/manifest", [32]byte{7}), wire.OpSignManifest, wire.ManifestText("corp.example/audit/manifest", [32]byte{7})},
	} {
		code, signatures := s.ask(tt.op, wire.SignBody(id(t, all[i]), tt.body))
		line, err := note.NewEd25519VerifierKey(tt.name, all[i].Private.Public().(ed25519.PublicKey))
		if err != nil || code != wire.OK {
			t.Fatal(code, err)
		}
		v, err := note.NewVerifier(line)
		if err != nil {
			t.Fatal(err)
		}
		n, err := note.Open(append(append(tt.text, '\n'), signatures...), note.VerifierList(v))
		if err != nil || n.Text != string(tt.text) || n.Sigs[0].Name != tt.name || len(n.UnverifiedSigs) > 0 {
			t.Errorf("%s: got %+v %v", tt.name, n, err)
		}
		out, err := exec.Command(keydtest.Binary(), "trust", "--config", k.Config).Output()
		if err != nil || !strings.Contains("\n"+string(out), "\n"+line+"\n") {
			t.Errorf("keyd trust prints %q %v, want %q among it", out, err, line)
		}
	}
}

// KEY-14: what was signed before a restart still counts.
func TestKEY14RollbackAfterRestart(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...) // the first's group may reach the socket
	log := keydtest.NewLog(t, "log")
	for range 3 {
		p := k.Start(t)
		s := signer{dial(t, k), id(t, all[0])}
		from := uint64(0)
		if _, pos := s.position(decision); !strings.HasPrefix(pos, decision+"\n0\n") {
			from = 9
		}
		s.must(log, decision, from, 9)
		if code, _ := s.grow(log, decision, 0, 4); code != wire.Conflict {
			t.Errorf("smaller: got %s, want %s", code, wire.Conflict)
		}
		if code, _ := s.grow(keydtest.NewLog(t, "fork"), decision, 0, 12); code != wire.Conflict {
			t.Errorf("anew: got %s, want %s", code, wire.Conflict)
		}
		if code, _ := s.grow(log.Fork(4, "fork"), decision, 9, 12); code != wire.Refused {
			t.Errorf("forked: got %s, want %s", code, wire.Refused)
		}
		p.Kill()
	}
}

// KEY-14: keyd is killed at any time; the next one knows of every signature that anybody has.
func TestKEY14KilledWhileSigning(t *testing.T) {
	all := auditKeys(t)[:1]
	k := keydtest.Make(t, 0, []int{0}, all...)
	log := keydtest.NewLog(t, "log")
	log.Root(20000)
	signed := uint64(0)
	for range rounds(t, 5) {
		p := k.Start(t)
		s := signer{dial(t, k), id(t, all[0])}
		_, pos := s.position(decision)
		cp, err := wire.ParseCheckpoint([]byte(pos))
		if err != nil || cp.Size < signed || cp.Root != log.Root(cp.Size) {
			t.Fatalf("position %q %v, signed were %d", pos, err, signed)
		}
		var answered atomic.Uint64
		var asking sync.WaitGroup
		enough := make(chan struct{})
		asking.Go(func() {
			for n := cp.Size; n < 19000; n++ {
				g := wire.Growth{Old: n, Proof: log.Proof(n, n+1), Body: log.Body(decision, n+1)}
				s.Write(wire.AppendFrame(nil, wire.Frame{Kind: byte(wire.OpSignCheckpoint), Body: wire.SignBody(s.id, g.AppendText(nil))}))
				f, err := wire.ReadFrame(s, wire.MaxAnswer)
				if err != nil {
					return // killed
				}
				if wire.Code(f.Kind) != wire.OK {
					t.Errorf("got %s %q", wire.Code(f.Kind), f.Body)
					return
				}
				if answered.Store(n + 1); n == cp.Size+5 {
					close(enough)
				}
			}
		})
		<-enough
		p.Kill()
		asking.Wait()
		signed = max(signed, answered.Load())
	}
}

// KEY-14: without its state keyd signs nothing for a log, says so, and goes on with everything else.
func TestKEY14StateLost(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"missing":      func(t *testing.T, file string) { os.Remove(file) },
		"empty":        func(t *testing.T, file string) { os.Truncate(file, 0) },
		"others' mode": func(t *testing.T, file string) { chmod(t, file, 0o644) },
		"not ours":     func(t *testing.T, file string) { chown(t, file, keydtest.StrangerUID) },
		"a symlink out of the folder": func(t *testing.T, file string) {
			out := filepath.Join(filepath.Dir(file), "..", "run", "old")
			os.Rename(file, out)
			symlink(t, out, file)
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(auditKeys(t), keys(t)[0])
			k := keydtest.Make(t, 0, []int{0}, all...)
			p := k.Start(t)
			s := signer{dial(t, k), id(t, all[0])}
			log := keydtest.NewLog(t, "log")
			s.must(log, decision, 0, 5)
			p.Kill()
			spoil(t, filepath.Join(k.Dir, "state", "checkpoint-corp.example~audit~decision"))
			p = k.Start(t)
			s.peer = dial(t, k)
			for _, size := range []uint64{0, 5, 6} {
				if code, why := s.grow(log, decision, 5, max(5, size)); code != wire.Failed || !bytes.Contains(why, []byte("state file")) {
					t.Errorf("size %d: got %s %q, want %s", size, code, why, wire.Failed)
				}
			}
			if code, _ := s.grow(log, decision, 0, 1); code != wire.Failed {
				t.Errorf("from nothing: got %s, want %s", code, wire.Failed)
			}
			if code, why := s.position(decision); code != wire.Failed {
				t.Errorf("position: got %s %q, want %s", code, why, wire.Failed)
			}
			if !strings.Contains(p.Log(), "a log cannot be signed") {
				t.Errorf("keyd's log says nothing: %s", p.Log())
			}
			if out, _ := exec.Command(keydtest.Binary(), "status", "--config", k.Config).Output(); !bytes.Contains(out, []byte("nothing is signed for "+decision)) {
				t.Errorf("the status says nothing: %s", out)
			}
			s.must(log, control, 0, 5)
			if code, _ := s.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[2]), []byte(certificateVerify))); code != wire.OK {
				t.Errorf("a handshake: got %s", code)
			}
		})
	}
}

// Who may look may ask where a log is, and gets no signature; another user than the gateway's gets nothing.
func TestCheckpointsAreForTheGatewayOnly(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, all...)
	k.Start(t)
	s := signer{dial(t, k), id(t, all[0])} // as root
	log := keydtest.NewLog(t, "log")
	if code, _ := s.grow(log, decision, 0, 1); code != wire.Forbidden {
		t.Errorf("root signs: got %s, want %s", code, wire.Forbidden)
	}
	if code, _ := s.ask(wire.OpSignManifest, wire.SignBody(id(t, all[1]), wire.ManifestText("corp.example/audit/manifest", [32]byte{}))); code != wire.Forbidden {
		t.Errorf("root signs a manifest: got %s, want %s", code, wire.Forbidden)
	}
	if code, pos := s.position(decision); code != wire.OK || pos != string(log.Body(decision, 0)) {
		t.Errorf("root looks: got %s %q", code, pos)
	}
	files, _ := filepath.Glob(filepath.Join(k.Dir, "state", "checkpoint-*"))
	if len(files) != 2 {
		t.Fatalf("got %v, want two states", files)
	}
	for _, uid := range []int{keydtest.GatewayUID, keydtest.StrangerUID} {
		if out, err := keydtest.As(t, uid, "reach", files...).Output(); err == nil {
			t.Errorf("uid %d reads %s", uid, out)
		}
	}
}

// No file holds the key of two purposes, and no key of another kind signs notes.
func TestAuditKeysAreTheirOwn(t *testing.T) {
	all := auditKeys(t)
	all[1].Private = all[0].Private
	if said := keydtest.Make(t, 0, []int{0}, all...).Fails(t); !strings.Contains(said, `key "evidence": is the same key as "log"`) {
		t.Errorf("one key for both: got %q", said)
	}
	for i := range all {
		all := auditKeys(t)
		k := keydtest.Make(t, 0, []int{0}, all...)
		all[i].Private = p256(t)
		k.WriteKey(t, all[i])
		if said := k.Fails(t); !strings.Contains(said, "want an Ed25519 key") {
			t.Errorf("%s on P-256: got %q", all[i].Name, said)
		}
	}
}

func TestStatusShowsHowFarLogsAreSigned(t *testing.T) {
	all := auditKeys(t)
	k := keydtest.Make(t, 0, []int{0}, all...)
	k.Start(t)
	s := signer{dial(t, k), id(t, all[0])}
	s.must(keydtest.NewLog(t, "log"), decision, 0, 4711)
	out, err := exec.Command(keydtest.Binary(), "status", "--config", k.Config).Output()
	if err != nil || !bytes.Contains(out, []byte("4711")) || !bytes.Contains(out, []byte("\ncorp.example/audit/manifest ")) {
		t.Errorf("got %v\n%s", err, out)
	}
	var list wire.List
	_, body := s.ask(wire.OpList, nil)
	if err := errors.Join(json.Unmarshal(body, &list)); err != nil || len(list.Keys[0].Origins) != 2 || list.Keys[0].Origins[1].InUse != control {
		t.Errorf("list: got %+v %v", list, err)
	}
}

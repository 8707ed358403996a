package keyd_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// rotating are an assertion key, a checkpoint key and a manifest key that rotate, and a managed TLS key.
func rotating(t testing.TB) []keydtest.Key {
	all := keys(t)
	says, log, bundle := all[3], all[6], all[7]
	for _, k := range []*keydtest.Key{&says, &log, &bundle} {
		k.Rotate = map[string]string{"announce": "1h", "overlap": "1h"}
	}
	log.Rotate["overlap"], bundle.Rotate["overlap"] = "1s", "1s"
	managed := keydtest.Key{Name: "managed", Purpose: "tls-server", Managed: true, Hosts: []string{"a.corp.example", "*.apps.corp.example"}, Rotate: map[string]string{"overlap": "1s"}}
	return []keydtest.Key{says, log, bundle, managed}
}

// list is what keyd lists, of one name, in its order.
func (p *peer) list(name string) (found []wire.Key) {
	p.t.Helper()
	_, body := p.ask(wire.OpList, nil)
	var list wire.List
	if err := json.Unmarshal(body, &list); err != nil {
		p.t.Fatal(err)
	}
	for _, k := range list.Keys {
		if k.Name == name {
			found = append(found, k)
		}
	}
	return found
}

// KEY-12: an operator rotates on the command line; the gateway's user may not. The new key is listed before it is used.
func TestKEY12OperatorsRotate(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, rotating(t)...)
	s.Start(t)
	run := func(uid int, args ...string) (string, error) {
		cmd := exec.Command(keydtest.Binary(), append(args, "--socket", s.Socket)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: []uint32{keydtest.GatewayUID}}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(keydtest.GatewayUID, "rotate", "says"); err == nil || !strings.Contains(out, "forbidden") {
		t.Errorf("the gateway's user rotates: %v %s", err, out)
	}
	if out, err := run(keydtest.KeydUID, "rotate", "says"); err != nil || !strings.Contains(out, "generation 2") {
		t.Fatalf("keyd's user: %v %s", err, out)
	}
	p := dial(t, s)
	if got := p.list("says"); len(got) != 2 || !got[0].Current || got[0].Generation != 1 || got[1].Current || got[1].Generation != 2 {
		t.Errorf("announced: got %+v", got)
	}
	if out, err := run(0, "rotate", "says"); err == nil || !strings.Contains(out, "announced already") {
		t.Errorf("twice: %v %s", err, out)
	}
	if out, err := run(0, "rotate", "says", "--now"); err != nil {
		t.Errorf("at once: %v %s", err, out)
	}
	if got := p.list("says"); len(got) != 2 || got[0].Generation != 2 || !got[0].Current || got[1].Retires.IsZero() {
		t.Errorf("switched: got %+v", got)
	}
	for _, name := range []string{"managed", "nobody"} {
		if out, err := run(0, "rotate", name); err == nil || !strings.Contains(out, "refused") {
			t.Errorf("%s: got %v %s, want a refusal", name, err, out)
		}
	}
	if out, err := run(0, "status"); err != nil || !strings.Contains(out, "2 current") || !strings.Contains(out, "1 retiring") {
		t.Errorf("status: %v %s", err, out)
	}
}

// KEY-12, KEY-14: a checkpoint key hands over to the next with a note that both sign; while they overlap both sign checkpoints,
// which grow from the same position; then the old one is gone, with its file.
func TestKEY12CheckpointKeysHandOver(t *testing.T) {
	all := rotating(t)
	k := keydtest.Make(t, 0, []int{0}, all...)
	p := k.Start(t)
	old := id(t, all[1])
	s := signer{dial(t, k), old}
	log := keydtest.NewLog(t, "log")
	s.must(log, decision, 0, 8)
	before := s.list("log")[0].Origins[0].VerifierKeys[0]
	if _, err := keyd.AskRotate(k.Socket, "log", true); err != nil {
		t.Fatal(err)
	}
	listed := s.list("log")
	after := listed[0].Origins[0].VerifierKeys[0]
	if before == after || listed[0].Generation != 2 {
		t.Fatalf("got %+v", listed)
	}
	verifier := func(vkey string) note.Verifiers {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		return note.VerifierList(v)
	}
	code, succession := s.ask(wire.OpSignSuccession, wire.SignBody(old, []byte(decision)))
	if code != wire.OK || !strings.Contains(string(succession), fmt.Sprintf("old %s\nnew %s\nsize 8\n", before, after)) {
		t.Fatalf("succession: %s %q", code, succession)
	}
	for _, vkey := range []string{before, after} {
		if _, err := note.Open(succession, verifier(vkey)); err != nil {
			t.Errorf("the succession is not signed by %s: %v", vkey, err)
		}
	}
	if code, _ := s.ask(wire.OpSignSuccession, wire.SignBody(id(t, all[0]), []byte(decision))); code != wire.Refused {
		t.Errorf("succession of a key without origins: %s", code)
	}
	newID, err := wire.ID(must(x509.ParsePKIXPublicKey(listed[0].Public)))
	if err != nil {
		t.Fatal(err)
	}
	by := signer{s.peer, newID}
	if code, body := by.grow(log.Fork(5, "fork"), decision, 8, 11); code != wire.Refused {
		t.Errorf("a fork under the new key: %s %q", code, body)
	}
	code, lines := by.grow(log, decision, 8, 11)
	if code != wire.OK {
		t.Fatalf("growth under the new key: %s %q", code, lines)
	}
	signed := append(append(log.Body(decision, 11), '\n'), lines...)
	if _, err := note.Open(signed, verifier(after)); err != nil {
		t.Errorf("the new key did not sign: %v", err)
	}
	file := filepath.Join(k.Dir, "keys", all[1].Name+".pem")
	keydtest.Eventually(t, "the old key is destroyed", func() error {
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("its file is there: %v", err)
		}
		return nil
	})
	if code, _ := s.grow(log, decision, 11, 12); code != wire.UnknownKey {
		t.Errorf("the destroyed key: got %s", code)
	}
	p.Kill()
	k.Start(t)
	s.peer = dial(t, k)
	by = signer{s.peer, newID}
	if code, pos := by.position(decision); code != wire.OK || pos != string(log.Body(decision, 11)) {
		t.Errorf("after a restart the position is %s %q", code, pos)
	}
	if code, lines := by.grow(log, decision, 11, 14); code != wire.OK || strings.Count(string(lines), "\n") != 1 {
		t.Errorf("after a restart: %s %q, want one signature", code, lines)
	}
	if code, again := s.ask(wire.OpSignSuccession, wire.SignBody(newID, []byte(decision))); code != wire.OK || string(again) != string(succession) {
		t.Errorf("after a restart the succession is %s %q", code, again)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// KEY-05: keys for certificates are made for configured names only, sign nothing before there is a certificate, and what is
// signed with them for the request keyd wrote itself.
func TestKEY05RequestsForCertificates(t *testing.T) {
	all := rotating(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	p := dial(t, s)
	request := func(slot string, names ...string) (wire.Code, []byte) {
		return p.ask(wire.OpMakeCSR, must(json.Marshal(wire.CSRRequest{Slot: slot, Names: names})))
	}
	for name, tt := range map[string]struct {
		slot  string
		names []string
	}{
		"another name":       {"managed", []string{"b.corp.example"}},
		"one of two":         {"managed", []string{"a.corp.example", "evil.example"}},
		"two labels":         {"managed", []string{"x.y.apps.corp.example"}},
		"another wildcard":   {"managed", []string{"*.corp.example"}},
		"nested wildcard":    {"managed", []string{"*.*.apps.corp.example"}},
		"upper case":         {"managed", []string{"A.corp.example"}},
		"a dot behind":       {"managed", []string{"a.corp.example."}},
		"an address":         {"managed", []string{"127.0.0.1"}},
		"a line break":       {"managed", []string{"a\n.apps.corp.example"}},
		"twice":              {"managed", []string{"a.corp.example", "a.corp.example"}},
		"none":               {"managed", nil},
		"the assertion key":  {"says", []string{"a.corp.example"}},
		"the checkpoint key": {"log", []string{"a.corp.example"}},
		"nobody":             {"x", []string{"a.corp.example"}},
	} {
		if code, body := request(tt.slot, tt.names...); code != wire.Refused {
			t.Errorf("%s: got %s %q, want a refusal", name, code, body)
		}
	}
	for name, body := range map[string]string{
		"no JSON": "x", "nothing": "", "unknown member": `{"slot":"managed","names":["a.corp.example"],"subject":"CN=x"}`,
		"two": `{"slot":"managed","names":["a.corp.example"]}{}`,
	} {
		if code, _ := p.ask(wire.OpMakeCSR, []byte(body)); code != wire.Malformed {
			t.Errorf("%s: got %s", name, code)
		}
	}
	names := []string{"a.corp.example", "*.apps.corp.example", "x.apps.corp.example"}
	code, answer := request("managed", names...)
	if code != wire.OK {
		t.Fatalf("got %s %q", code, answer)
	}
	first, der, _ := wire.SplitSignBody(answer)
	csr := must(x509.ParseCertificateRequest(der))
	if err := csr.CheckSignature(); err != nil || !slices.Equal(csr.DNSNames, names) || len(csr.Extensions) != 1 || csr.Subject.String() != "" ||
		len(csr.EmailAddresses)+len(csr.IPAddresses)+len(csr.URIs) > 0 {
		t.Errorf("the request is %v: %+v", err, csr)
	}
	if code, _ := p.ask(wire.OpSignTLS13Server, wire.SignBody(first, []byte(certificateVerify))); code != wire.UnknownKey || len(p.list("managed")) != 0 {
		t.Errorf("a key without a certificate signs: %s", code)
	}
	adopt := func(id wire.KeyID) wire.Code {
		code, _ := p.ask(wire.OpAdoptKey, id[:])
		return code
	}
	for name, id := range map[string]wire.KeyID{"no key": {}, "an assertion key": id(t, all[0])} {
		if got := adopt(id); got != wire.UnknownKey {
			t.Errorf("adopting %s: got %s", name, got)
		}
	}
	for range 2 { // again is no error
		if got := adopt(first); got != wire.OK {
			t.Fatalf("adopting: %s", got)
		}
	}
	if code, body := p.ask(wire.OpSignTLS13Server, wire.SignBody(first, []byte(certificateVerify))); code != wire.OK {
		t.Errorf("the adopted key: %s %q", code, body)
	}
	// Two may wait; the third is refused.
	_, second := request("managed", "a.corp.example")
	if code, _ := request("managed", "a.corp.example"); code != wire.OK {
		t.Errorf("a second request: %s", code)
	}
	if code, _ := request("managed", "a.corp.example"); code != wire.Refused {
		t.Errorf("a third request: %s", code)
	}
	if got := adopt(wire.KeyID(second)); got != wire.OK {
		t.Fatalf("adopting: %s", got)
	}
	keydtest.Eventually(t, "the key of before is destroyed", func() error {
		if _, err := os.Stat(filepath.Join(s.Dir, "keys", "managed.pem")); !errors.Is(err, os.ErrNotExist) || len(p.list("managed")) != 1 {
			return fmt.Errorf("its file is there: %v", err)
		}
		return nil
	})
}

// A reload takes new keys and names, or changes nothing. Connections, and what was signed of the logs, go on.
func TestReloadIsAllOrNothing(t *testing.T) {
	all := rotating(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, all...)
	process := s.Start(t)
	p := dial(t, s)
	log := signer{p, id(t, all[1])}
	tree := keydtest.NewLog(t, "log")
	log.must(tree, decision, 0, 8)
	good := must(os.ReadFile(s.Config))
	edit := func(old, now string) {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %q in %s", old, good)
		}
		if err := os.WriteFile(s.Config, []byte(strings.Replace(string(good), old, now, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct{ old, now, want string }{
		"not YAML":           {"{", "}{", ""},
		"another socket":     {"keyd.sock", "other.sock", "listen cannot change"},
		"a key without file": {`"name": "managed"`, `"name": "says"`, "taken"},
		"a missing key file": {`"file": "says.pem"`, `"file": "nowhere.pem"`, "nowhere.pem"},
	} {
		edit(tt.old, tt.now)
		if err := keyd.AskReload(s.Socket); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if len(p.list("says")) != 1 {
			t.Errorf("%s: keys are gone", name)
		}
	}
	edit(`"a.corp.example"`, `"new.corp.example"`)
	if err := keyd.AskReload(s.Socket); err != nil {
		t.Fatal(err)
	}
	if code, body := p.ask(wire.OpMakeCSR, []byte(`{"slot":"managed","names":["new.corp.example"]}`)); code != wire.OK {
		t.Errorf("a name that was added: %s %q", code, body)
	}
	if code, body := log.grow(tree, decision, 0, 11); code != wire.Conflict {
		t.Errorf("the log forgot: %s %q", code, body)
	}
	log.must(tree, decision, 8, 11)
	// A key file that was replaced is another key, under the same name.
	fresh := all[0]
	fresh.Private = keys(t)[3].Private
	s.WriteKey(t, fresh)
	if err := keyd.AskReload(s.Socket); err != nil {
		t.Fatal(err)
	}
	if got := p.list("says"); len(got) != 1 || got[0].ID != id(t, fresh).String() {
		t.Errorf("after the file was replaced: %+v, want %s", got, id(t, fresh))
	}
	if !process.Running() {
		t.Error("keyd is gone")
	}
}

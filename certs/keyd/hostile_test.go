package keyd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// report is what a hostile gateway found out.
type report struct {
	Sent       int
	Answers    map[string]int // by code
	Why        []string       // sentences of refusals
	Lawful     map[string]int // requests that were rightly granted, by operation
	Violations []string
}

// intruder is a program that has taken over the gateway: it may connect, and wants more.
type intruder struct {
	net.Conn
	judge
	keys []prey
	why  map[string]bool
	report
}

// intrude says hello and asks for the keys.
func intrude(c net.Conn) (*intruder, error) {
	if err := wire.Offer(c); err != nil {
		return nil, err
	}
	return explore(c)
}

// explore asks for the keys.
func explore(c net.Conn) (*intruder, error) {
	x := &intruder{Conn: c, why: map[string]bool{}, report: report{Answers: map[string]int{}, Lawful: map[string]int{}}}
	log := keydtest.NewLog(nil, "log")
	log.Root(hostileLogSize)
	x.judge = judge{logs: map[string]*keydtest.Log{hostileOrigin: log, hostileControl: log}, last: map[string]uint64{}}
	code, answer, err := x.ask(wire.OpList, nil)
	if err != nil || code != wire.OK {
		return nil, fmt.Errorf("list: %s %w", code, err)
	}
	var list wire.List
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, err
	}
	for _, k := range list.Keys {
		public, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return nil, err
		}
		id, err := wire.ID(public)
		if err != nil {
			return nil, err
		}
		x.keys = append(x.keys, prey{k, id, public})
	}
	return x, nil
}

func (x *intruder) ask(op wire.Op, body []byte) (wire.Code, []byte, error) {
	x.SetDeadline(time.Now().Add(2 * time.Minute))
	x.Sent++
	if _, err := x.Write(wire.AppendFrame(nil, wire.Frame{ID: uint32(x.Sent), Kind: byte(op), Body: body})); err != nil {
		return 0, nil, err
	}
	f, err := wire.ReadFrame(x, wire.MaxAnswer)
	if err != nil {
		return 0, nil, err
	}
	if f.ID != uint32(x.Sent) {
		return 0, nil, fmt.Errorf("an answer to %d instead of %d", f.ID, x.Sent)
	}
	code := wire.Code(f.Kind)
	x.Answers[code.String()]++
	if code != wire.OK {
		x.why[string(f.Body)] = true
	}
	return code, f.Body, nil
}

func (x *intruder) violation(format string, args ...any) {
	x.Violations = append(x.Violations, fmt.Sprintf(format, args...))
}

// try asks for one signature and lets the judge look at what comes.
func (x *intruder) try(op wire.Op, k prey, a trick) error {
	code, answer, err := x.ask(op, wire.SignBody(k.id, a.data))
	if err != nil {
		return fmt.Errorf("%s of %q with %s: %w", op, a.name, k.Name, err)
	}
	if code != wire.OK {
		return nil
	}
	if wrong := x.check(op, k, a.data, answer); wrong != "" {
		x.violation("%s of %q with %s, a key for %s: %s: %.40q", op, a.name, k.Name, k.Purpose, wrong, answer)
		return nil
	}
	x.Lawful[op.String()]++
	return nil
}

// operations are all that name a key first, known or not.
func operations() []wire.Op {
	var all []wire.Op
	for op := range 256 {
		switch op := wire.Op(op); op {
		case wire.OpList, wire.OpStatus, wire.OpSigningLog, wire.OpMakeCSR, wire.OpAdoptKey, wire.OpRotate:
		default:
			if op.String() != wire.Op(0).String() || op == 0 || op == wire.OpSignSuccession+1 || op == 255 {
				all = append(all, op)
			}
		}
	}
	return all
}

// tryAll makes every trick with every operation and every key.
func (x *intruder) tryAll() error {
	nobody := prey{Key: wire.Key{Name: "nobody"}, id: wire.KeyID{1, 2, 3}}
	for _, a := range tricks(x.keys, x.logs[hostileOrigin]) {
		for _, op := range operations() {
			for _, k := range append(slices.Clip(x.keys), nobody) {
				if err := x.try(op, k, a); err != nil {
					return err
				}
			}
		}
	}
	for _, op := range operations() {
		for n := range 32 { // no key id
			if code, _, err := x.ask(op, make([]byte, n)); err != nil || code == wire.OK {
				return fmt.Errorf("%s with a body of %d bytes: %s %w", op, n, code, err)
			}
		}
	}
	for _, op := range []wire.Op{wire.OpList, wire.OpStatus, wire.OpSigningLog} {
		if code, _, err := x.ask(op, []byte("x")); err != nil || code == wire.OK {
			return fmt.Errorf("%s with a body: %s %w", op, code, err)
		}
	}
	return x.askForKeys()
}

// askForKeys tries to get keys for names that are not the gateway's, and to have others used or replaced.
func (x *intruder) askForKeys() error {
	for _, r := range requests(x.keys) {
		code, answer, err := x.ask(r.op, []byte(r.body))
		switch {
		case err != nil:
			return fmt.Errorf("%s of %.60q: %w", r.op, r.body, err)
		case code != wire.OK:
		case r.op != wire.OpMakeCSR || r.names == nil || !isRequestFor(r.names, x.keys, answer):
			x.violation("%s of %.60q is granted", r.op, r.body)
		default:
			x.Lawful[r.op.String()]++
		}
	}
	return nil
}

// tryRandom makes changed and mixed attempts, n of them.
func (x *intruder) tryRandom(r *mathrand.Rand, n int) error {
	all, ops := tricks(x.keys, x.logs[hostileOrigin]), operations()
	for range n {
		a := all[r.IntN(len(all))]
		if len(a.data) > 4096 {
			continue
		}
		data := bytes.Clone(a.data)
		for range 1 + r.IntN(2) {
			switch i := r.IntN(len(data) + 1); r.IntN(5) {
			case 0:
				data = data[:i]
			case 1:
				data = append(data[:i:i], all[r.IntN(len(all)-1)].data...)
			case 2:
				data = slices.Insert(data, i, byte(r.Uint32()))
			case 3:
				if i < len(data) {
					data[i] ^= 1 << r.IntN(8)
				}
			}
		}
		op, k := ops[r.IntN(len(ops))], x.keys[r.IntN(len(x.keys))]
		if i := slices.IndexFunc(laws, func(l law) bool { return l.purpose == k.Purpose }); r.IntN(3) > 0 {
			op = laws[i].op
		}
		if err := x.try(op, k, trick{"changed " + a.name, data[:min(len(data), 8000)]}); err != nil {
			return err
		}
	}
	return nil
}

// Hostile is the program: arguments are the socket, a seed and how many random attempts to make. It prints its report.
func Hostile(args []string) error {
	seed, err1 := strconv.ParseUint(args[1], 10, 64)
	n, err2 := strconv.Atoi(args[2])
	c, err3 := net.Dial("unix", args[0])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	x, err := intrude(c)
	if err != nil {
		return err
	}
	if err := errors.Join(x.tryAll(), x.tryRandom(mathrand.New(mathrand.NewPCG(seed, 0)), n)); err != nil {
		return err
	}
	x.Why = slices.Sorted(maps.Keys(x.why))
	return json.NewEncoder(os.Stdout).Encode(x.report)
}

// quarry is one key for each purpose, and of each kind.
func quarry(t testing.TB) []keydtest.Key {
	t.Helper()
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err2 := ed25519.GenerateKey(rand.Reader)
	_, logs, err3 := ed25519.GenerateKey(rand.Reader)
	_, notes, err4 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	ec := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	keys := []keydtest.Key{
		{Name: "spare", Purpose: "tls-server", Private: ec(elliptic.P256()), Hosts: []string{"spare.corp.example"}}, // for the one who is honest
		{Name: "wiki", Purpose: "tls-server", Private: ec(elliptic.P256()), Hosts: []string{"wiki.corp.example"}},
		{Name: "edward", Purpose: "tls-server", Private: ed, Hosts: []string{"edward.corp.example"}},
		{Name: "rivest", Purpose: "tls-server", Private: r, Hosts: []string{"rivest.corp.example"}},
		{Name: "old", Purpose: "tls-server", Private: ec(elliptic.P256()), Hosts: []string{"old.corp.example"}, TLS12: true},
		{Name: "mutual", Purpose: "tls-client", Private: ec(elliptic.P256())},
		{Name: "says", Purpose: "assertion", Private: ec(elliptic.P256())},
		{Name: "login", Purpose: "oidc-client", Private: ec(elliptic.P256()), ClientID: "sallyport", Audience: hostileAudience},
		{Name: "account", Purpose: "acme-account", Private: ec(elliptic.P256())},
		{Name: "log", Purpose: "checkpoint", Private: logs, Origins: []string{hostileOrigin, hostileControl}},
		{Name: "evidence", Purpose: "manifest", Private: notes, Origins: []string{hostileNotes}},
		{Name: "managed", Purpose: "tls-server", Hosts: []string{"shop.example", "*.shop.example"}, Managed: true},
	}
	for i := range keys {
		keys[i].Rate = 1_000_000 // the rules shall refuse, not the rates
	}
	return keys
}

// KEY-05: a gateway that a stranger has taken over tries everything that PROTOCOL.md has a word for, as the gateway's
// user: each operation with each key and each message. It is granted what PROTOCOL.md grants, all else is refused and in the
// signing log, and keyd goes on serving others.
func TestKEY05HostileGateway(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, quarry(t)...)
	p := s.Start(t)
	honest := beHonest(t, s)
	program := keydtest.As(t, keydtest.GatewayUID, "hostile", s.Socket, strconv.FormatUint(keydtest.Seed(t), 10), strconv.Itoa(rounds(t, 3000)))
	var stderr bytes.Buffer
	program.Stderr = &stderr
	out, err := program.Output()
	if err != nil {
		t.Fatalf("the hostile gateway: %v: %s; keyd says: %.2000s", err, stderr.String(), p.Log())
	}
	honest()
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Error(v)
	}
	for _, l := range laws {
		if r.Lawful[l.op.String()] == 0 {
			t.Errorf("%s was never granted: the attempts at it say nothing", l.op)
		}
	}
	if r.Lawful[wire.OpMakeCSR.String()] != 2 {
		t.Errorf("%d certificate requests were made, want 2", r.Lawful[wire.OpMakeCSR.String()])
	}
	if !p.Running() {
		t.Fatalf("keyd ended: %s", p.Log())
	}
	t.Logf("%d requests: %v; granted: %v", r.Sent, r.Answers, r.Lawful)
	refusalsAreRecorded(t, s, r)
}

// beHonest is another client, which is served all the while. The function that it returns ends it.
func beHonest(t *testing.T, s *keydtest.Setup) (end func()) {
	t.Helper()
	c, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	x, err := intrude(c)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	message := trick{"honest", []byte(serverSide.certificateVerify() + strings.Repeat("h", 32))}
	go func() {
		defer close(done)
		defer c.Close()
		for {
			select {
			case <-stop:
				if x.Lawful[wire.OpSignTLS13Server.String()] != x.Answers["ok"]-1 || len(x.Answers) > 1 {
					t.Errorf("the honest client got %v", x.Answers)
				}
				return
			case <-time.After(time.Millisecond):
				if err := x.try(wire.OpSignTLS13Server, x.keys[0], message); err != nil {
					t.Errorf("the honest client: %v", err)
					return
				}
			}
		}
	}()
	end = sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(end)
	return end
}

// refusalsAreRecorded compares what the hostile gateway saw with what keyd counted and what its log says.
func refusalsAreRecorded(t *testing.T, s *keydtest.Setup, r report) {
	t.Helper()
	st, err := AskStatus(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{}
	for code, n := range r.Answers {
		if code != wire.OK.String() {
			want[code] = uint64(n)
		}
	}
	if !maps.Equal(st.Refusals, want) {
		t.Errorf("keyd counted %v, want %v", st.Refusals, want)
	}
	if st.Alarms != want[wire.WrongPurpose.String()] {
		t.Errorf("%d alarms, want %d", st.Alarms, want[wire.WrongPurpose.String()])
	}
	c, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := intrude(c)
	if err != nil {
		t.Fatal(err)
	}
	counted, entries, dropped, after := map[string]uint64{}, uint64(0), uint64(0), uint64(0)
	keydtest.Eventually(t, "the signing log has every refusal", func() error { // a window closes after ten seconds
		code, answer, err := x.ask(wire.OpSigningLog, binary.BigEndian.AppendUint64(nil, after))
		var log wire.SigningLog
		if err := errors.Join(err, json.Unmarshal(answer, &log)); err != nil {
			t.Fatal(code, err)
		}
		for _, e := range log.Entries {
			after = e.Seq
			if f := e.Refusal; f != nil {
				if entries++; f.UID != keydtest.GatewayUID || f.Why == "" {
					t.Errorf("entry %+v, want it to name uid %d", f, keydtest.GatewayUID)
				}
				continue
			}
			dropped += e.Window.Dropped
			for code, n := range e.Window.Codes {
				counted[code] += n
			}
		}
		if !maps.Equal(counted, want) {
			return fmt.Errorf("it counts %v, want %v", counted, want)
		}
		return nil
	})
	total := uint64(0)
	for _, n := range want {
		total += n
	}
	if entries+dropped != total {
		t.Errorf("%d refusals have an entry and %d none, of %d", entries, dropped, total)
	}
}

// A keyd that lacks any one of its checks signs something that the hostile gateway asks for, and the judge sees it. The
// mutant here lacks them all: where a check refuses, it answers with that check's sentence as if it were a signature.
// Each sentence of a check in keyd's source has to turn up.
func TestKEY05EveryCheckIsNeeded(t *testing.T) {
	s := keydtest.Make(t, os.Geteuid(), []int{0}, quarry(t)...)
	x, srv := inProcess(t, s)
	for _, k := range srv.keys.Load().keys {
		k.sign, k.sign12 = obliging(k.sign), obliging(k.sign12)
	}
	if err := x.tryAll(); err != nil {
		t.Fatal(err)
	}
	seen := strings.Join(append(x.Violations, slices.Collect(maps.Keys(x.why))...), "\n")
	for _, sentence := range sentences(t) {
		// The mutant's answers are cut in a violation's text.
		if !strings.Contains(seen, sentence[:min(len(sentence), 35)]) {
			t.Errorf("no trick is stopped by %q ", sentence)
		}
	}
	if len(x.Violations) < 100 {
		t.Errorf("the judge saw %d violations", len(x.Violations))
	}
}

func obliging(sign func([]byte) ([]byte, error)) func([]byte) ([]byte, error) {
	if sign == nil {
		return nil
	}
	return func(m []byte) ([]byte, error) {
		sig, err := sign(m)
		if r, ok := errors.AsType[refusal](err); ok {
			return []byte(r), nil
		}
		return sig, err
	}
}

// notTheGateways are sentences that a gateway never hears: about epochs, which only keyd's operator opens, about rotation,
// which is not its affair, and one behind another check (see TestKEY14EachRuleIsNeeded).
var notTheGateways = []string{
	"not the origin in use",
	"the first checkpoint of an epoch must name the log that it continues", "the key retires", "it does not rotate",
}

// sentences are all that keyd's source calls a refusal.
func sentences(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 || fmt.Sprint(call.Fun) != "refusal" {
				return true
			}
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			sentence, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(notTheGateways, func(s string) bool { return strings.HasPrefix(sentence, s) }) {
				list = append(list, sentence)
			}
			return true
		})
	}
	if len(list) < 30 {
		t.Fatalf("found %d sentences: %q", len(list), list)
	}
	return list
}

// Mutants that mix up keys: each serves a key for what another is for.
func TestKEY05MixedUpPurposesAreSeen(t *testing.T) {
	s := keydtest.Make(t, os.Geteuid(), []int{0}, quarry(t)...)
	for _, tt := range []struct {
		name  string
		spoil func(keys map[string]*key)
	}{
		{"a server's key for the client's side", func(k map[string]*key) { k["wiki"].op, k["wiki"].sign = k["mutual"].op, k["mutual"].sign }},
		{"a client's key for the server's side", func(k map[string]*key) { k["mutual"].op, k["mutual"].sign = k["wiki"].op, k["wiki"].sign }},
		{"a TLS key for accounts", func(k map[string]*key) { k["wiki"].op, k["wiki"].sign = k["account"].op, k["account"].sign }},
		{"a TLS key for assertions", func(k map[string]*key) { k["wiki"].op, k["wiki"].sign = k["says"].op, k["says"].sign }},
		{"a key that is not marked for TLS 1.2", func(k map[string]*key) { k["wiki"].sign12 = k["old"].sign12 }},
		{"an app's assertions with the provider's key", func(k map[string]*key) { k["login"].op, k["login"].sign = k["says"].op, k["says"].sign }},
		{"another key's signature", func(k map[string]*key) { k["wiki"].sign = k["spare"].sign }},
		{"manifests with the key of logs", func(k map[string]*key) { k["log"].op, k["log"].sign = k["evidence"].op, k["evidence"].sign }},
		{"PKCS #1 v1.5", func(k map[string]*key) {
			k["rivest"].sign = func([]byte) ([]byte, error) { return make([]byte, 256), nil }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, srv := inProcess(t, s)
			byName := map[string]*key{}
			for _, k := range srv.keys.Load().keys {
				byName[k.Name] = k
			}
			tt.spoil(byName)
			if err := x.tryAll(); err != nil {
				t.Fatal(err)
			}
			if len(x.Violations) == 0 {
				t.Error("nobody noticed")
			}
		})
	}
}

// inProcess is an intruder into a keyd that this process is, so that a test can spoil it.
func inProcess(t *testing.T, s *keydtest.Setup) (*intruder, *server) {
	t.Helper()
	c, err := LoadConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	stores, err := openBackends(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stores.close() })
	state, err := openState(c.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Close() })
	keys, err := openSlots(c, stores, state, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServer(keys, "test", func() []wire.Fact { return nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { srv.serveConn(ctx, theirs, peer{uid: keydtest.GatewayUID, maySign: true}) })
	t.Cleanup(func() { cancel(); ours.Close(); serving.Wait() })
	x, err := intrude(ours)
	if err != nil {
		t.Fatal(err)
	}
	return x, srv
}

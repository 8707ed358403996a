package keyd

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

const decision = "corp.example/audit/decision"

// machine is a folder on a disk whose power can be cut, and which processes can die on, at any step. What was not synced
// may survive or not.
type machine struct {
	names, synced map[string]*content // now, and as of the last Sync
	r             *mathrand.Rand
	left          int  // steps until the end; negative: for ever
	skipData      bool // mutants: a Sync that does nothing
	skipNames     bool
	fail          error // of the last step, if it is not the end
}

// content is a file's bytes, now and as of its last Sync.
type content struct{ data, synced []byte }

var errDead = errors.New("the process is dead")

func newMachine(r *mathrand.Rand) *machine {
	return &machine{names: map[string]*content{}, synced: map[string]*content{}, r: r, left: -1}
}

// step is each access that changes something. The last one fails, having taken effect or not.
func (m *machine) step(effect func()) error {
	if m.left == 0 {
		return errDead
	}
	if m.left--; m.left == 0 {
		if m.r.IntN(2) == 0 {
			effect()
		}
		if m.fail != nil {
			m.left = -1
			return m.fail
		}
		return errDead
	}
	effect()
	return nil
}

func (m *machine) Read(name string) ([]byte, error) {
	if c := m.names[name]; c != nil {
		return c.data, nil
	}
	return nil, fs.ErrNotExist
}

func (m *machine) Create(name string) (writer, error) {
	c := &content{}
	return &open{m, c}, m.step(func() { m.names[name] = c })
}

func (m *machine) Rename(from, to string) error {
	return m.step(func() {
		m.names[to] = m.names[from]
		delete(m.names, from)
	})
}

func (m *machine) Sync() error {
	return m.step(func() {
		if !m.skipNames {
			m.synced = maps.Clone(m.names)
		}
	})
}

type open struct {
	m *machine
	c *content
}

func (o *open) Write(b []byte) (int, error) {
	return len(b), o.m.step(func() { o.c.data = append(o.c.data, b...) })
}

func (o *open) Sync() error {
	return o.m.step(func() {
		if !o.m.skipData {
			o.c.synced = o.c.data
		}
	})
}

func (o *open) Close() error { return nil }

// powerCut loses what was not synced: all of it, none, or some.
func (m *machine) powerCut() {
	keep := []func() bool{
		func() bool { return false },
		func() bool { return true },
		func() bool { return m.r.IntN(2) == 0 },
	}[m.r.IntN(3)]
	survivors := maps.Clone(m.synced)
	for name, c := range m.names {
		if keep() {
			survivors[name] = c
		}
	}
	for _, c := range survivors {
		if !keep() {
			c.data = c.synced
		}
	}
	m.names, m.synced, m.left = survivors, maps.Clone(survivors), -1
}

// variant is how ledgers work; the mutants are those that must not pass.
type variant struct {
	skipData, skipNames bool
	trustsDisk          bool // takes what a killed process left for durable
	grow                func(*ledger, wire.Checkpoint, wire.Growth) ([]byte, error)
}

// answersFirst signs before it notes what it signed.
func answersFirst(l *ledger, next wire.Checkpoint, g wire.Growth) ([]byte, error) {
	state, err := l.position()
	if err == nil {
		err = state.admits(next, g)
	}
	if err != nil {
		return nil, err
	}
	state.last.Size, state.last.Root, state.signed = next.Size, next.Root, true
	l.keep(state)
	return l.sign(g.Body)
}

func signingLedger(store stateFolder, private ed25519.PrivateKey) (*ledger, error) {
	l := openLedger(decision, store)
	return l, l.signWith(private)
}

// story lets a gateway have a log signed on a machine on which processes die and whose power is cut, and tells whether
// keyd ever forgot what it signed.
func story(t *testing.T, v variant, seed uint64) error {
	t.Helper()
	r := mathrand.New(mathrand.NewPCG(seed, 0))
	m := newMachine(r)
	m.skipData, m.skipNames = v.skipData, v.skipNames
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	first := newLogState(decision).encode()
	m.names[stateFile(decision)] = &content{first, first}
	m.synced = maps.Clone(m.names)
	log := keydtest.NewLog(t, "log")
	signed := uint64(0) // the largest that anybody has a signature of
	for range 5 {
		l, err := signingLedger(m, private)
		if err != nil {
			return err
		}
		l.durable = v.trustsDisk
		state, err := l.position()
		if err != nil {
			return err
		}
		if state.last.Size < signed {
			return fmt.Errorf("signed %d, remembers %d", signed, state.last.Size)
		}
		if r.IntN(4) > 0 {
			m.left = 1 + r.IntN(15)
		}
		for range 4 {
			state, _ := l.position()
			next := wire.Checkpoint{Origin: decision, Size: state.last.Size + uint64(r.IntN(3))}
			next.Root = log.Root(next.Size)
			g := wire.Growth{Old: state.last.Size, Proof: log.Proof(state.last.Size, next.Size), Body: next.AppendText(nil)}
			if _, err := v.grow(l, next, g); err == nil {
				signed = max(signed, next.Size)
			}
		}
		if m.left = -1; r.IntN(2) == 0 {
			m.powerCut()
		}
	}
	return nil
}

// KEY-14: whatever dies, whenever, keyd remembers each checkpoint that it signed, and its state is always whole. An
// implementation that answers before the state is on disk is found out.
func TestKEY14NothingSignedIsForgotten(t *testing.T) {
	seed := keydtest.Seed(t)
	n := uint64(rounds(t, 1000))
	t.Logf("%d stories", n)
	for i := range n {
		if err := story(t, variant{grow: (*ledger).grow}, seed+i); err != nil {
			t.Fatalf("seed %d: %v", seed+i, err)
		}
	}
	for name, mutant := range map[string]variant{
		"answers before the sync":           {grow: answersFirst},
		"does not sync the file":            {grow: (*ledger).grow, skipData: true},
		"does not sync the folder":          {grow: (*ledger).grow, skipNames: true},
		"trusts what a killed process left": {grow: (*ledger).grow, trustsDisk: true},
	} {
		found := false
		for i := uint64(0); i < 2000 && !found; i++ {
			found = story(t, mutant, i) != nil
		}
		if !found {
			t.Errorf("nobody notices that keyd %s", name)
		}
	}
}

// rounds is how often a repeating test repeats.
func rounds(t testing.TB, few int) int {
	t.Helper()
	s := os.Getenv("SALLYPORT_ROUNDS")
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return max(n, 20)
}

// fresh is a ledger on a new machine.
func fresh(t *testing.T) (*ledger, *machine) {
	t.Helper()
	m := newMachine(mathrand.New(mathrand.NewPCG(1, 1)))
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	m.names[stateFile(decision)] = &content{data: newLogState(decision).encode()}
	l, err := signingLedger(m, private)
	if err != nil {
		t.Fatal(err)
	}
	return l, m
}

func (l *ledger) growTo(log *keydtest.Log, from, to uint64) error {
	next := wire.Checkpoint{Origin: decision, Size: to, Root: log.Root(to)}
	_, err := l.grow(next, wire.Growth{Old: from, Proof: log.Proof(from, to), Body: next.AppendText(nil)})
	return err
}

// A disk that fails at any step costs the signature, and nothing else.
func TestFailedSyncGivesNoSignature(t *testing.T) {
	full := errors.New("no space left")
	for step := 1; step <= 5; step++ { // create, write, sync, rename, sync the folder
		for try := range 8 { // with and without effect
			l, m := fresh(t)
			log := keydtest.NewLog(t, "log")
			if err := l.growTo(log, 0, 3); err != nil {
				t.Fatal(err)
			}
			m.r = mathrand.New(mathrand.NewPCG(uint64(try), 0))
			m.left, m.fail = step, full
			if err := l.growTo(log, 3, 5); !errors.Is(err, full) {
				t.Fatalf("step %d: got %v, want %v", step, err, full)
			}
			if s, err := l.position(); err != nil || s.last.Size != 3 {
				t.Errorf("step %d: position %v %v, want size 3", step, s, err)
			}
			if err := l.growTo(log, 3, 7); err != nil {
				t.Errorf("step %d: when the disk is back: %v", step, err)
			}
		}
	}
}

// hung is a folder whose disk never answers until it is released.
type hung struct {
	*machine
	entered, release chan struct{}
}

func (h hung) Sync() error {
	close(h.entered)
	<-h.release
	return h.machine.Sync()
}

// One checkpoint at a time: while the disk hangs with one, others give up, and nothing waits to know where the log is.
func TestHangingDiskGathersNoRequests(t *testing.T) {
	l, m := fresh(t)
	entered, release := make(chan struct{}), make(chan struct{})
	l.store = hung{m, entered, release}
	log := keydtest.NewLog(t, "log")
	log.Root(10)
	first := make(chan error, 1)
	go func() { first <- l.growTo(log, 0, 3) }()
	<-entered
	if err := l.growTo(keydtest.NewLog(t, "log"), 0, 4); err == nil || !strings.Contains(err.Error(), "waits for the disk") {
		t.Errorf("got %v, want an error about the disk", err)
	}
	if s, err := l.position(); err != nil || s.signed {
		t.Errorf("got %v %v, want nothing signed", s, err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("when the disk is back: %v", err)
	}
}

// The state of a log or key is never written over that of another, whatever they are called.
func TestStatesOfLikeNamesAreApart(t *testing.T) {
	m := newMachine(mathrand.New(mathrand.NewPCG(1, 0)))
	for _, base := range []string{decision + ".new", decision} {
		if err := saveState(m, newLogState(base)); err != nil {
			t.Fatal(err)
		}
	}
	for _, base := range []string{decision + ".new", decision} {
		if _, err := loadState(m, base); err != nil {
			t.Error(err)
		}
	}
}

// KEY-14: state that is lost, damaged or of another log is never taken for a new log's.
func TestKEY14DoubtfulStateSignsNothing(t *testing.T) {
	old := newLogState(decision)
	old.signed, old.last.Size, old.last.Root = true, 9, keydtest.NewLog(t, "log").Root(9)
	good := old.successor().encode()
	bad := map[string][]byte{"missing": nil, "empty": {}, "another log's": newLogState("corp.example/audit/control").encode(),
		"newer version": []byte(strings.Replace(string(good), "v1", "v2", 1))}
	for i := range good {
		bad[fmt.Sprintf("cut at %d", i)] = good[:i]
		flipped := append([]byte(nil), good...)
		flipped[i] ^= 1 << (i % 8)
		bad[fmt.Sprintf("flipped at %d", i)] = flipped
	}
	bad["twice"] = append(append([]byte(nil), good...), good...)
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	for name, data := range bad {
		m := newMachine(mathrand.New(mathrand.NewPCG(1, 1)))
		if data != nil {
			m.names[stateFile(decision)] = &content{data: data}
		}
		l, err := signingLedger(m, private)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.growTo(keydtest.NewLog(t, "log"), 0, 1); err == nil || !strings.Contains(err.Error(), "state file") {
			t.Errorf("%s: got %v, want an error that names the state file", name, err)
		}
		if all := (ledgers{l}).status(); all[0].Problem == "" {
			t.Errorf("%s: the status says nothing", name)
		}
	}
}

// FuzzState: what is read as a state is written again byte by byte.
func FuzzState(f *testing.F) {
	s := newLogState(decision)
	f.Add(s.encode())
	s.signed = true
	f.Add(s.successor().encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeState(data); err == nil && string(s.encode()) != string(data) {
			t.Fatalf("read %q, written %q", data, s.encode())
		}
	})
}

// FuzzLedger: whatever is asked, what is signed continues the last checkpoint and is remembered. KEY-09, KEY-14.
func FuzzLedger(f *testing.F) {
	log := keydtest.NewLog(f, "log")
	fork := log.Fork(5, "fork")
	for _, g := range []wire.Growth{
		{Old: 8, Proof: log.Proof(8, 11), Body: log.Body(decision, 11)},
		{Old: 8, Proof: fork.Proof(8, 11), Body: fork.Body(decision, 11)},
		{Old: 5, Proof: log.Proof(5, 11), Body: log.Body(decision, 11)},
		{Old: 8, Body: log.Body(decision, 8)},
		{Old: 8, Proof: make([][32]byte, 63), Body: wire.Checkpoint{Origin: decision, Size: wire.MaxSize}.AppendText(nil)},
		{Body: log.Body(decision, 3)},
	} {
		f.Add(g.AppendText(nil))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		l, _ := fresh(t)
		log := keydtest.NewLog(t, "log")
		if err := l.growTo(log, 0, 8); err != nil {
			t.Fatal(err)
		}
		_, err := ledgers{l}.sign(message)
		after, _ := l.position()
		if err != nil && (after.last.Size != 8 || after.last.Root != log.Root(8)) {
			t.Fatalf("refused %q, and remembers %s", message, after)
		}
		if err == nil && (after.last.Size < 8 || after.last.Size < 12 && after.last.Root != log.Root(after.last.Size)) {
			t.Fatalf("signed %q, which does not continue the log: %s", message, after)
		}
	})
}

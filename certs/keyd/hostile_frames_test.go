package keyd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// rudeness is how a hostile gateway treats frames. The error says what keyd did that it should not have done.
type rudeness struct {
	name string
	do   func(r *rude) error
}

var rudenesses = []rudeness{
	{"half a hello", func(r *rude) error { return r.endsAfter("", "SPK") }},
	{"nothing at all", func(r *rude) error { return r.endsAfter("", "") }},
	{"another protocol", func(r *rude) error { return r.endsAfter("", "GET / HTTP/1.1\r\n\r\n") }},
	{"a version that there is not", func(r *rude) error { return r.endsAfter("SPKEYD\x00\x00", "SPKEYD\x00\x00") }},
	{"half a length", func(r *rude) error { return r.endsAfter(hello, hello+"\x00\x00\x00") }},
	{"half a frame", func(r *rude) error { return r.endsAfter(hello, hello+string(r.lawful[:len(r.lawful)-1])) }},
	{"a length of nothing", func(r *rude) error { return r.endsAfter(hello, hello+"\x00\x00\x00\x00") }},
	{"a length without an operation", func(r *rude) error { return r.endsAfter(hello, hello+"\x00\x00\x00\x04aaaa") }},
	{"a byte too long", func(r *rude) error { return r.endsAfter(hello, hello+"\x00\x01\x00\x01"+strings.Repeat("a", 100)) }},
	{"as long as a length can say", func(r *rude) error { return r.endsAfter(hello, hello+"\xff\xff\xff\xff"+strings.Repeat("a", 100)) }},
	{"a byte now and then", (*rude).slow},
	{"questions without listening", (*rude).deaf},
	{"a flood of questions for other keys", func(r *rude) error { return r.flood(r.wrong, wire.WrongPurpose) }},
	{"a flood of the largest frames", func(r *rude) error { return r.flood(r.huge, wire.Refused) }},
	{"frames that interleave on two connections", (*rude).interleave},
	{"a frame in a frame", (*rude).nested},
	{"the same number again and again", (*rude).sameNumber},
	{"hanging up on its answers", (*rude).hangUp},
}

const hello = "SPKEYD\x00\x01"

// rude is a program that misuses connections, and frames for it: one that is signed and two that are not.
type rude struct {
	socket              string
	lawful, wrong, huge []byte
	many                int // requests of a flood
}

func (r *rude) dial() (net.Conn, error) {
	c, err := net.Dial("unix", r.socket)
	if err == nil {
		c.SetDeadline(time.Now().Add(2 * time.Minute))
	}
	return c, err
}

// greet is dial and hello. It tries again: the crowd of the program before this one takes a moment to leave.
func (r *rude) greet() (net.Conn, error) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := r.dial()
		if err != nil {
			return nil, err
		}
		if err = wire.Offer(c); err == nil {
			return c, nil
		}
		c.Close()
		if time.Now().After(end) {
			return nil, err
		}
	}
}

// endsAfter writes something and wants nothing but the given to come back before the connection ends.
func (r *rude) endsAfter(want, say string) error {
	c, err := r.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	c.Write([]byte(say)) // keyd may have hung up in the middle
	got, err := io.ReadAll(c)
	if os.IsTimeout(err) || !strings.HasPrefix(want, string(got)) {
		return fmt.Errorf("got %q %w, want %q and the end", got, err, want)
	}
	return nil
}

// slow sends a frame that would be signed, too slowly.
func (r *rude) slow() error {
	c, err := r.greet()
	if err != nil {
		return err
	}
	defer c.Close()
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for i := range r.lawful {
		if _, err := c.Write(r.lawful[i : i+1]); err != nil {
			return nil
		}
		<-pause.C
	}
	return errors.New("a frame that took more than half a minute was read")
}

// deaf asks until it is thrown out.
func (r *rude) deaf() error {
	c, err := r.greet()
	if err != nil {
		return err
	}
	defer c.Close()
	list := bytes.Repeat(wire.AppendFrame(nil, wire.Frame{Kind: byte(wire.OpList)}), 100)
	for {
		if _, err := c.Write(list); os.IsTimeout(err) {
			return errors.New("nobody who does not listen is thrown out")
		} else if err != nil {
			return nil
		}
	}
}

// flood sends many frames, reads their answers, and wants all of them to be this refusal.
func (r *rude) flood(frame []byte, want wire.Code) error {
	c, err := r.greet()
	if err != nil {
		return err
	}
	defer c.Close()
	n := r.many * len(r.wrong) / len(frame)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for range n {
			if _, err := c.Write(frame); err != nil {
				return
			}
		}
	})
	return wantAnswers(c, n, want)
}

func wantAnswers(c net.Conn, n int, want wire.Code) error {
	for i := range n {
		f, err := wire.ReadFrame(c, wire.MaxAnswer)
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		if code := wire.Code(f.Kind); code != want {
			return fmt.Errorf("answer %d: got %s %q, want %s", i, code, f.Body, want)
		}
	}
	return nil
}

// interleave writes a frame each on two connections, byte by byte in turns. Both are served.
func (r *rude) interleave() error {
	a, err1 := r.greet()
	b, err2 := r.greet()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	for i := range r.lawful {
		a.Write(r.lawful[i : i+1])
		b.Write(r.lawful[i : i+1])
	}
	return errors.Join(wantAnswers(a, 1, wire.OK), wantAnswers(b, 1, wire.OK))
}

// nested begins a frame and sends another one before it is through: what keyd reads is neither, and it signs nothing.
func (r *rude) nested() error {
	c, err := r.greet()
	if err != nil {
		return err
	}
	defer c.Close()
	c.Write(append(bytes.Clone(r.lawful[:len(r.lawful)/2]), bytes.Repeat(r.lawful, 3)...))
	for {
		f, err := wire.ReadFrame(c, wire.MaxAnswer)
		if err != nil {
			if os.IsTimeout(err) {
				return errors.New("keyd waits for the rest for ever")
			}
			return nil
		}
		if wire.Code(f.Kind) == wire.OK {
			return errors.New("it is signed")
		}
	}
}

// sameNumber gives all requests one id. keyd does not look at it.
func (r *rude) sameNumber() error {
	c, err := r.greet()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(bytes.Repeat(r.lawful, 50)); err != nil {
		return err
	}
	return wantAnswers(c, 50, wire.OK)
}

// hangUp leaves while its answers come.
func (r *rude) hangUp() error {
	c, err := r.greet()
	if err != nil {
		return err
	}
	c.Write(bytes.Repeat(r.lawful, 100))
	return c.Close()
}

// crowd opens more connections than one user has. Those that are too many end at once.
func (r *rude) crowd() error {
	ended := make(chan error, 3*maxConns)
	for range 3 * maxConns {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			return err
		}
		defer c.Close()
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
	}
	for range 2 * maxConns {
		if err := <-ended; err == nil {
			return errors.New("keyd speaks first")
		}
	}
	return nil
}

// HostileFrames is the program: arguments are the socket and how many requests a flood has.
func HostileFrames(args []string) error {
	many, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r := &rude{socket: args[0], many: many}
	c, err := r.greet()
	if err != nil {
		return err
	}
	x, err := explore(c)
	if err != nil {
		return err
	}
	var wiki prey
	for _, k := range x.keys {
		if k.Name == "wiki" {
			wiki = k
		}
	}
	c.Close()
	message := []byte(serverSide.certificateVerify() + strings.Repeat("h", 32))
	frame := func(op wire.Op, message []byte) []byte {
		return wire.AppendFrame(nil, wire.Frame{ID: 7, Kind: byte(op), Body: wire.SignBody(wiki.id, message)})
	}
	r.lawful, r.wrong = frame(wire.OpSignTLS13Server, message), frame(wire.OpSignAssertion, message)
	r.huge = frame(wire.OpSignTLS13Server, make([]byte, wire.MaxRequest-5-32))
	errs := make([]error, len(rudenesses))
	var all sync.WaitGroup
	for i, x := range rudenesses {
		all.Go(func() {
			if err := x.do(r); err != nil {
				errs[i] = fmt.Errorf("%s: %w", x.name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errors.Join(errs...), r.crowd())
}

// KEY-09: the gateway's user treats frames and connections as badly as it can. keyd ends what it cannot read, answers the
// rest, serves others meanwhile, and does not grow.
func TestKEY09HostileFrames(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, quarry(t)...)
	p := s.Start(t)
	honest := beHonest(t, s)
	var sizes []int
	for range max(3, rounds(t, 3)/20) {
		out, err := keydtest.As(t, keydtest.GatewayUID, "hostile frames", s.Socket, strconv.Itoa(10_000)).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		sizes = append(sizes, resident(t, p.PID()))
	}
	honest()
	if !p.Running() {
		t.Fatalf("keyd ended: %s", p.Log())
	}
	// What a connection may have in flight, 32 times 64 KiB, of each of 32 connections: what is more is a leak.
	if first, last := sizes[0], sizes[len(sizes)-1]; last > first+64<<10 || last > 256<<10 {
		t.Errorf("keyd had %d KiB in memory after each round", sizes)
	}
	t.Logf("keyd had %d KiB in memory after each round", sizes)
	if lines := strings.Count(p.Log(), "\n"); lines > 2000 {
		t.Errorf("keyd wrote %d lines about it", lines)
	}
}

// resident is how many KiB of the process are in memory.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

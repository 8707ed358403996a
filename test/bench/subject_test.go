package bench

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// subject is a proxy being measured.
type subject struct {
	name, address, host, cookie string
	roots                       *x509.CertPool
	pids                        []int  // of the proxy and its helpers, all of whose processor time is its
	child                       *child // nil: no program of ours
	dir                         string // of the gateway's installation
}

// cpu is the processor time the subject has used so far.
func (x *subject) cpu(b *testing.B) (used time.Duration) {
	for _, pid := range x.pids {
		fields := statOf(pid)
		if fields == nil {
			b.Fatalf("%s: process %d is gone", x.name, pid)
		}
		for _, f := range fields[11:13] { // utime, stime (proc_pid_stat(5)), in hundredths of a second
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			used += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return used
}

// family is a process and its children.
func family(b *testing.B, pid int) []int {
	list := []int{pid}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		other, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := statOf(other); fields != nil && fields[1] == strconv.Itoa(pid) {
			list = append(list, other)
		}
	}
	return list
}

// statOf is a line of proc_pid_stat(5) from the state on, or nil when there is no such process.
func statOf(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Fields(rest)
}

// allocations are what a process of ours has taken from its heap so far.
type allocations struct{ Objects, Bytes uint64 }

func (x *subject) allocations(b *testing.B) allocations {
	if x.child == nil {
		return allocations{}
	}
	a, err := x.child.allocations()
	if err != nil {
		b.Fatalf("%s: asking for its allocations: %v", x.name, err)
	}
	return a
}

// child is this test binary in a role, as a process of its own. It tells its allocations when asked: for each byte on
// its standard input it writes one line to descriptor 3.
type child struct {
	*exec.Cmd
	ask     *os.File
	answers *json.Decoder
	lent    []*os.File // the child's ends, until it has started
}

const answersFD = 3

// roles that this test binary plays, by the name in roleVariable.
var roles = map[string]func(args []string){"gateway": runGateway, "bare": runBare, "strangers": runStrangers, "door": runDoor}

const roleVariable = "SALLYPORT_BENCH_ROLE"

func newChild(b *testing.B, role string, args ...string) *child {
	questions, ask, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ask.Close(); read.Close() })
	c := &child{Cmd: exec.Command(os.Args[0], args...), ask: ask, answers: json.NewDecoder(read), lent: []*os.File{questions, write}}
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.Stdin, c.ExtraFiles = questions, []*os.File{write}
	return c
}

// started closes what only the child still needs.
func (c *child) started() {
	for _, f := range c.lent {
		f.Close()
	}
}

func (c *child) allocations() (a allocations, err error) {
	if _, err := c.ask.Write([]byte{'?'}); err != nil {
		return a, err
	}
	return a, c.answers.Decode(&a)
}

// tellAllocations is the child's side.
func tellAllocations() {
	syscall.CloseOnExec(answersFD)
	answers := json.NewEncoder(os.NewFile(answersFD, "answers"))
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	for {
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return
		}
		metrics.Read(sample)
		if err := answers.Encode(allocations{sample[0].Value.Uint64(), sample[1].Value.Uint64()}); err != nil {
			return
		}
	}
}

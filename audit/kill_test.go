package audit

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/audit/segment"
)

// killedEnv makes the test binary the gateway that gets killed.
const killedEnv = "SALLYPORT_TEST_KILLED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedEnv); dir != "" {
		appendForEver(dir)
	}
	os.Exit(m.Run())
}

// appendForEver is the child: it says what was acknowledged, after the fact.
func appendForEver(dir string) {
	a, err := Open(Config{Dir: dir}, quiet(Options{}))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				r, err := a.Decisions().Append(context.Background(), decision("/"))
				if err != nil {
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(r.Seq, r.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// A process that is killed at any moment has lost nothing of what it had said was recorded, and gives up its lock.
func TestKilledProcessLosesNothing(t *testing.T) {
	total := 0
	for left := rounds(t, 20); left > 0; left -= bootsPerDisk {
		dir, acked := t.TempDir(), map[uint64]string{}
		for range min(left, bootsPerDisk) {
			runAndKill(t, dir, acked)
			checkAcked(t, dir, acked)
		}
		total += len(acked)
	}
	if total == 0 {
		t.Error("nothing was ever acknowledged: the test shows nothing")
	}
}

// checkAcked reads the decision log with no gateway running.
func checkAcked(t *testing.T, dir string, acked map[uint64]string) {
	t.Helper()
	r := openReader(t, dir)
	found := map[uint64]string{}
	for e, err := range r.All(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Record.Seq != uint64(len(found)) {
			t.Fatalf("seq %d where %d should be", e.Record.Seq, len(found))
		}
		found[e.Record.Seq] = e.Record.ID
	}
	for seq, id := range acked {
		if found[seq] != id {
			t.Fatalf("seq %d is %q, acknowledged was %q", seq, found[seq], id)
		}
	}
}

func runAndKill(t *testing.T, dir string, acked map[uint64]string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killedEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for left := rand.N(200); lines.Scan(); left-- {
		var seq uint64
		var id string
		if _, err := fmt.Sscan(lines.Text(), &seq, &id); err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		if acked[seq] != "" {
			t.Fatalf("seq %d was given twice", seq)
		}
		acked[seq] = id
		if left == 0 {
			_ = child.Process.Signal(syscall.SIGKILL) // it may be gone already
		}
	}
	_ = child.Wait() // killed
}

// The lock is the process's: a gateway in another process is told too.
func TestOneWriterAmongProcesses(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir, Options{})
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killedEnv+"="+dir)
	out, err := child.Output()
	if err == nil {
		t.Error("a second process opened the directory")
	}
	if want := "locking audit directory: " + ErrLocked.Error() + "\n"; string(out) != want {
		t.Errorf("second process says %q, want %q", out, want)
	}
}

// readerEnv makes the test binary a reader under another account.
const readerEnv = "SALLYPORT_TEST_READER_DIR"

// Readers need no right to write: an auditor's account in the directory's group follows the log beside the gateway.
func TestReaderOfTheGroup(t *testing.T) {
	if dir := os.Getenv(readerEnv); dir != "" {
		readAsAuditor(t, dir)
		return
	}
	if os.Getuid() != 0 {
		t.Log("only root can become another account; reading as this one")
	}
	const group = 4242
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "test")
	if err := exec.Command("cp", os.Args[0], binary).Run(); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(binary, "-test.run", "^TestReaderOfTheGroup$")
	if os.Getuid() == 0 {
		shareWithGroup(t, dir, group)
		shareWithGroup(t, filepath.Join(dir, "audit"), group)
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: group}}
	}
	a := openTest(t, filepath.Join(dir, "audit"), Options{})
	mustAppend(t, a.Decisions(), "/")
	child.Env = append(os.Environ(), readerEnv+"="+filepath.Join(dir, "audit"))
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("reading as an auditor: %v\n%s", err, out)
	}
}

// shareWithGroup makes a folder whose files belong to the group.
func shareWithGroup(t *testing.T, dir string, group int) {
	t.Helper()
	err := os.MkdirAll(dir, directoryMode)
	if err == nil {
		err = os.Chown(dir, 0, group)
	}
	if err == nil {
		err = os.Chmod(dir, directoryMode|os.ModeSetgid)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readAsAuditor(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, err := range openReader(t, dir).Follow(ctx, Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if ctx.Err() != nil {
		t.Error("nothing was read")
	}
	if f, err := os.OpenFile(filepath.Join(dir, segment.Name(DecisionLog, 1)), os.O_WRONLY, 0); err == nil && os.Getuid() != 0 {
		f.Close()
		t.Error("an auditor may write")
	}
}

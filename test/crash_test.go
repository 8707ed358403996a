package test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/test/harness"
)

// rounds is how often a repeating test repeats: SALLYPORT_ROUNDS, or what fits into half a minute.
func rounds(t testing.TB, standard int) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_ROUNDS")
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SALLYPORT_ROUNDS is %q, want a number", text)
	}
	return n
}

// seeded is a seed that is printed, so that a failure can be repeated with SALLYPORT_SEED.
func seeded(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return seed
}

// AUD-01: after a kill -9 at any moment under load, every request that the app saw has a durable allow record.
func TestKillLosesNoRecordOfWhatTheAppSaw(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	lost := killRounds(t, s, rounds(t, 20), func() *harness.Process { return s.Start(t) })
	if len(lost) > 0 {
		t.Errorf("%d requests reached the app without a durable allow record, such as %s", len(lost), lost[0])
	}
	list := records(t, s)
	gapless(t, list)
	decisionsByRequest(t, list)
}

// The same rounds must find a gateway that forwards before the log has acknowledged.
func TestKillFindsForwardingBeforeTheAcknowledgement(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	const enough = 60
	lost := killRounds(t, s, enough, func() *harness.Process { return startMutant(t, s, "forward before ack") })
	if len(lost) == 0 {
		t.Errorf("%d rounds did not notice that the gateway forwards too early", enough)
	}
}

// killRounds kills a gateway under load again and again and returns the ids of requests that the app saw and no
// durable record allows. It ends early when it has found some.
func killRounds(t *testing.T, s *harness.Stand, n int, start func() *harness.Process) (lost []string) {
	t.Helper()
	random := rand.New(rand.NewPCG(seeded(t), 0))
	t.Logf("%d rounds", n)
	var cookie *http.Cookie
	var seen uint64 // records of the rounds before
	for range n {
		gw := start()
		if cookie == nil {
			browser := s.Browser()
			s.SignIn(t, browser, "wiki", "ada", "staff")
			cookie = s.Cookie(t, browser, "wiki")
		}
		s.Origin.Forget()
		stop := load(s, cookie, 16)
		harness.Eventually(t, 2*time.Minute, "requests to flow", func() bool { return len(s.Origin.Seen()) > 50 })
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond) // the moment of the kill, not a wait for anything
		gw.Kill()
		stop()
		if lost, seen = missing(t, s, seen); len(lost) > 0 {
			return lost
		}
	}
	return nil
}

// load keeps clients asking until stopped; their errors are the point of the exercise.
func load(s *harness.Stand, cookie *http.Cookie, clients int) (stop func()) {
	transport := s.Transport()
	quit := make(chan struct{})
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
			for n := 0; ; n++ {
				select {
				case <-quit:
					return
				default:
				}
				req, err := http.NewRequest(http.MethodGet, s.URL("wiki", fmt.Sprintf("/load/%d/%d", c, n)), nil)
				if err != nil {
					panic(err)
				}
				req.AddCookie(cookie)
				if res, err := client.Do(req); err == nil {
					drain(res)
				} else {
					time.Sleep(time.Millisecond) // nobody is listening: leave the processor to who is being started
				}
			}
		})
	}
	return func() {
		close(quit)
		group.Wait()
		transport.CloseIdleConnections()
	}
}

// missing are the ids of requests that the app saw and no record allows; records before from are not looked at.
func missing(t *testing.T, s *harness.Stand, from uint64) (ids []string, next uint64) {
	t.Helper()
	recorded := map[string]bool{}
	for _, r := range readLog(t, s, audit.DecisionLog, audit.Filter{FromSeq: from}) {
		if next = r.Seq + 1; r.Type == audit.TypeDecision && r.Effect == audit.Allow {
			recorded[r.RequestID] = true
		}
	}
	for _, seen := range s.Origin.Seen() {
		if !recorded[seen.ID] {
			ids = append(ids, seen.ID)
		}
	}
	return ids, next
}

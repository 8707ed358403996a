package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/gateway/admin"
	"sallyport/test/harness"
)

// illness is how a replica answers.
type illness int32

const (
	well illness = iota
	slow
	refusing
	resetting
	failing
	hanging
)

var illnesses = map[string]illness{"slow": slow, "refusing": refusing, "resetting": resetting, "failing": failing, "hanging": hanging}

const (
	// slowness is how long a slow replica takes, where the others take less than a millisecond.
	slowness = 700 * time.Millisecond
	// healthInterval and the other settings of the tests: patience is a request's, per try.
	healthInterval = 500 * time.Millisecond
	patience       = time.Second
)

// replica is one address of an app, which can fall ill.
type replica struct {
	name, address string
	state         atomic.Int32

	mu       sync.Mutex
	server   *http.Server
	conns    map[net.Conn]bool
	arrivals []time.Time    // of requests, health checks apart
	ids      map[string]int // X-Id of requests
	cookies  []string       // Cookie fields it was sent
}

func newReplica(t *testing.T, name string) *replica {
	t.Helper()
	r := &replica{name: name, address: refusingAddress(t), ids: map[string]int{}, conns: map[net.Conn]bool{}}
	r.start(t)
	t.Cleanup(func() { r.stop(false) })
	return r
}

// start listens, again at the same address after a stop.
func (r *replica) start(t *testing.T) {
	t.Helper()
	var listener net.Listener
	harness.Eventually(t, 2*time.Minute, "the address "+r.address, func() (ok bool) {
		var err error
		listener, err = net.Listen("tcp", r.address)
		return err == nil
	})
	server := &http.Server{Handler: r, ErrorLog: log.New(io.Discard, "", 0), ConnState: func(conn net.Conn, state http.ConnState) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.conns[conn] = true; state == http.StateClosed || state == http.StateHijacked {
			delete(r.conns, conn)
		}
	}}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	go server.Serve(listener) // until stop
}

// stop ends the replica with everything it has open, abruptly: as a crash resets connections, or as an exit closes them.
func (r *replica) stop(reset bool) {
	r.mu.Lock()
	server, conns := r.server, r.conns
	r.server, r.conns = nil, map[net.Conn]bool{}
	r.mu.Unlock()
	if server == nil {
		return
	}
	if reset {
		for conn := range conns {
			conn.(*net.TCPConn).SetLinger(0)
		}
	}
	server.Close()
}

// fall makes the replica ill, or well again.
func (r *replica) fall(t *testing.T, ill illness) {
	was := illness(r.state.Swap(int32(ill)))
	if ill == refusing {
		r.stop(true)
	} else if was == refusing {
		r.start(t)
	}
}

func (r *replica) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/healthz" {
		r.note(req)
	}
	switch illness(r.state.Load()) {
	case slow:
		select {
		case <-time.After(slowness):
		case <-req.Context().Done():
		}
	case resetting:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		return
	case failing:
		http.Error(w, "the app is ill", http.StatusInternalServerError)
		return
	case hanging:
		<-req.Context().Done()
		return
	}
	w.Header().Set("X-Replica", r.name)
	io.WriteString(w, "well")
}

func (r *replica) note(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = append(r.arrivals, time.Now())
	if id := req.Header.Get("X-Id"); id != "" {
		r.ids[id]++
	}
	r.cookies = append(r.cookies, req.Header.Get("Cookie"))
}

// asked is how many requests arrived.
func (r *replica) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arrivals)
}

func (r *replica) since(from time.Time) (list []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.arrivals {
		if at.After(from) {
			list = append(list, at)
		}
	}
	return list
}

func refusingAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
}

// fleet are an app's replicas.
func fleet(t *testing.T, n int) (list []*replica) {
	t.Helper()
	for i := range n {
		list = append(list, newReplica(t, fmt.Sprintf("replica-%d", i)))
	}
	return list
}

// fleetStand is a gateway before a fleet.
func fleetStand(t *testing.T, replicas []*replica, settings string) *harness.Stand {
	t.Helper()
	var addresses []string
	for _, r := range replicas {
		addresses = append(addresses, `"http://`+r.address+`"`)
	}
	return harness.New(t, fmt.Sprintf(`
  - { name: wiki, host: wiki.corp.test, upstreams: [%s], access: { groups: [staff] }%s }
`, strings.Join(addresses, ", "), settings), "")
}

// crowd is a load of requests that must all succeed.
type crowd struct {
	t          *testing.T
	quit       chan struct{}
	group      sync.WaitGroup
	asked, bad atomic.Int64
	posts      atomic.Int64 // POSTs that failed, which they may
}

const crowdSize = 8

// gather starts the crowd: every request is a GET, or where all is true also PUT, DELETE and POST with bodies.
func gather(t *testing.T, s *harness.Stand, cookie *http.Cookie, all bool) *crowd {
	c := &crowd{t: t, quit: make(chan struct{})}
	for n := range crowdSize {
		client := clients(s)[n%2]
		c.group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-c.quit:
					return
				default:
				}
				method := http.MethodGet
				if all {
					method = []string{"GET", "PUT", "DELETE", "POST"}[i%4]
				}
				c.one(s, client, cookie, method, fmt.Sprintf("%d-%d", n, i))
			}
		})
	}
	t.Cleanup(c.leave)
	return c
}

func (c *crowd) one(s *harness.Stand, client *http.Client, cookie *http.Cookie, method, id string) {
	var body io.Reader
	if method == http.MethodPut || method == http.MethodPost {
		body = strings.NewReader(strings.Repeat("x", 3000))
	}
	req, err := http.NewRequest(method, s.URL("wiki", "/"+id), body)
	if err != nil {
		panic(err)
	}
	req.AddCookie(cookie)
	req.Header.Set("X-Id", method+id)
	res, err := client.Do(req)
	c.asked.Add(1)
	if err == nil {
		err = drain(res)
	}
	if err == nil && res.StatusCode == http.StatusOK {
		return
	}
	if err == nil {
		err = statusError(res.StatusCode)
	}
	if code := statusError(0); method == http.MethodPost && errors.As(err, &code) && code >= 502 && code <= 504 {
		c.posts.Add(1)
		return
	}
	if c.bad.Add(1) < 5 {
		c.t.Errorf("%s %s: %v", method, id, err)
	}
}

// leave ends the load and returns how much there was.
func (c *crowd) leave() {
	select {
	case <-c.quit:
	default:
		close(c.quit)
	}
	c.group.Wait()
}

// A replica that falls ill is left within three health intervals or twenty requests, by whatever method the balancer
// chooses, with health checks and without, and no client sees an error that another try could have hidden. When it is
// well it is back.
func TestBalanceLeavesWhatIsIll(t *testing.T) {
	checks := fmt.Sprintf(", health: { path: /healthz, interval: %s, timeout: 300ms }", healthInterval)
	for _, c := range []struct{ name, settings string }{
		{"by default", ""},
		{"by default checked", checks},
		{"round robin checked", ", balance: { method: round_robin }" + checks},
		{"least outstanding", ", balance: { method: least_outstanding }"},
		{"hash checked", ", balance: { method: hash, hash: header, name: X-Id }" + checks},
	} {
		for name, ill := range illnesses {
			if ill == slow && c.name == "least outstanding" {
				continue // it gets what it can carry, which is what the method is for
			}
			t.Run(c.name+" "+name, func(t *testing.T) {
				t.Parallel()
				replicas := fleet(t, 3)
				s := fleetStand(t, replicas, fmt.Sprintf(", timeouts: { attempt: %s }, ejection: { time: 1s }", patience)+c.settings)
				s.Start(t)
				leavesAndReturns(t, s, replicas, ill)
			})
		}
	}
}

func leavesAndReturns(t *testing.T, s *harness.Stand, replicas []*replica, ill illness) {
	cookie := session(t, s, "wiki", "ada", "staff")
	load := gather(t, s, cookie, false)
	harness.Eventually(t, 2*time.Minute, "requests at every replica", func() bool {
		return !slices.ContainsFunc(replicas, func(r *replica) bool { return r.asked() < 50 })
	})
	sick := replicas[0]
	sick.fall(t, ill)
	fell := time.Now()
	const enough = 6 * healthInterval // to see whether it stays left
	harness.Eventually(t, 2*time.Minute, "time to pass", func() bool { return time.Since(fell) > enough })
	judgeLeaving(t, sick.since(fell), fell, ill)
	sick.fall(t, well)
	recovered := time.Now()
	harness.Eventually(t, 2*time.Minute, "the replica to be back", func() bool { return len(sick.since(recovered)) > 20 })
	load.leave()
	t.Logf("%d requests, %d failed; %d reached the sick replica", load.asked.Load(), load.bad.Load(), len(sick.since(fell))-len(sick.since(recovered)))
	if n := load.bad.Load(); n > 0 {
		t.Errorf("%d of %d clients saw an error", n, load.asked.Load())
	}
}

// judgeLeaving holds the arrivals at a replica after it fell ill against what is allowed. Requests that were on their way
// when it was left, one for each client, and the single ones that find out whether it is well again, are nobody's choice.
func judgeLeaving(t *testing.T, arrivals []time.Time, fell time.Time, ill illness) {
	t.Helper()
	const requests, probes = 20, 6
	if len(arrivals) <= requests+crowdSize {
		return
	}
	late := arrivals[requests+crowdSize:]
	late = slices.DeleteFunc(slices.Clone(late), func(at time.Time) bool { return at.Sub(fell) <= 3*healthInterval })
	if len(late) > probes {
		t.Errorf("%d requests reached the replica, %d of them later than 3 health intervals, the last %s after it fell ill", len(arrivals), len(late), late[len(late)-1].Sub(fell))
	}
}

// LB-02: killing one replica of three under load, again and again, fails no request that may be repeated, and repeats none
// that may not.
func TestBalanceSurvivesTheDeathOfReplicas(t *testing.T) {
	for name, reset := range map[string]bool{"resetting its connections": true, "closing them": false} {
		t.Run(name, func(t *testing.T) {
			replicas := fleet(t, 3)
			s := fleetStand(t, replicas, ", ejection: { time: 200ms }, retry: { budget: 1 }")
			s.Start(t)
			load := gather(t, s, session(t, s, "wiki", "ada", "staff"), true)
			for n := range rounds(t, 6) {
				victim := replicas[n%len(replicas)]
				before := victim.asked()
				harness.Eventually(t, 2*time.Minute, "the victim to be busy", func() bool { return victim.asked() > before+50 })
				victim.stop(reset)
				died := load.asked.Load()
				harness.Eventually(t, 2*time.Minute, "requests after the death", func() bool { return load.asked.Load() > died+200 })
				victim.start(t)
			}
			load.leave()
			t.Logf("%d requests, %d failed, besides %d POSTs that could not be repeated", load.asked.Load(), load.bad.Load(), load.posts.Load())
			if n := load.bad.Load(); n > 0 {
				t.Errorf("%d requests failed that could have been repeated", n)
			}
			for id, n := range tally(replicas) {
				if n > 1 && strings.HasPrefix(id, http.MethodPost) {
					t.Errorf("LB-02: POST %s was sent %d times", id, n)
				}
			}
		})
	}
}

// tally is how often each id arrived, anywhere.
func tally(replicas []*replica) map[string]int {
	all := map[string]int{}
	for _, r := range replicas {
		r.mu.Lock()
		for id, n := range r.ids {
			all[id] += n
		}
		r.mu.Unlock()
	}
	return all
}

// LB-04: an app of which nothing is left is unavailable, in words that name nothing, and another app does not answer
// for it.
func TestBalanceWithNothingLeft(t *testing.T) {
	replicas, other := fleet(t, 3), newReplica(t, "other")
	var addresses []string
	for _, r := range replicas {
		addresses = append(addresses, `"http://`+r.address+`"`)
	}
	s := harness.New(t, fmt.Sprintf(`
  - { name: wiki, host: wiki.corp.test, upstreams: [%s], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["http://%s"], access: { groups: [staff] } }
`, strings.Join(addresses, ", "), other.address), "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	harness.Get(t, browser, s.URL("payroll", "/"))
	cookie, asked := s.Cookie(t, browser, "wiki"), other.asked()
	for _, r := range replicas {
		r.stop(true)
	}
	for range 30 {
		for _, client := range clients(s) {
			res, body := send(t, client, http.MethodGet, s.URL("wiki", "/page"), cookie, nil)
			if res.StatusCode != http.StatusBadGateway && res.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("LB-04: got %d %s", res.StatusCode, body)
			}
			namesNothing(t, "LB-04", res, body, replicas[0].address)
		}
	}
	if status, page := harness.Get(t, browser, s.URL("wiki", "/page")); status < 502 || !strings.Contains(page, "<html") {
		t.Errorf("LB-04: a person got %d %.200s", status, page)
	}
	if n := other.asked() - asked; n != 0 {
		t.Errorf("LB-04: another app was asked %d times", n)
	}
	if status, body := harness.Get(t, browser, s.URL("payroll", "/")); status != http.StatusOK || body != "well" {
		t.Errorf("the other app got %d %s", status, body)
	}
	replicas[1].start(t)
	harness.Eventually(t, 2*time.Minute, "the app to be back", func() bool {
		res, _ := send(t, clients(s)[0], http.MethodGet, s.URL("wiki", "/page"), cookie, nil)
		return res.StatusCode == http.StatusOK
	})
}

// A sticky person stays at one replica, across a restart of the gateway too, and moves when it is gone. The app never sees
// the cookie, and nobody can write one.
func TestBalanceKeepsPeopleAtTheirReplica(t *testing.T) {
	replicas := fleet(t, 3)
	s := fleetStand(t, replicas, ", balance: { method: round_robin, sticky: true }")
	gw := s.Start(t)
	people := map[string]*http.Client{}
	at := map[string]string{}
	for _, person := range []string{"ada", "bob", "cleo", "dan", "eve", "fay"} {
		browser := s.Browser()
		s.SignIn(t, browser, "wiki", person, "staff")
		people[person], at[person] = browser, replicaOf(t, s, browser)
	}
	if spread := distinct(at); spread < 2 {
		t.Errorf("six people are all at %v", at)
	}
	stays := func(when string) {
		t.Helper()
		for person, browser := range people {
			for range 5 {
				if now := replicaOf(t, s, browser); now != at[person] {
					t.Errorf("%s, %s moved from %s to %s", when, person, at[person], now)
				}
			}
		}
	}
	stays("at first")
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	stays("after a restart")
	for _, r := range replicas {
		if i := slices.IndexFunc(r.cookies, func(c string) bool { return strings.Contains(c, "sallyport") }); i >= 0 {
			t.Errorf("the app was sent %q", r.cookies[i])
		}
	}
	gone := replicas[slices.IndexFunc(replicas, func(r *replica) bool { return r.name == at["ada"] })]
	gone.stop(false)
	moved := replicaOf(t, s, people["ada"])
	for range 5 {
		if now := replicaOf(t, s, people["ada"]); now != moved || now == gone.name {
			t.Errorf("after the death of %s ada is at %s and %s", gone.name, moved, now)
		}
	}
}

func distinct(at map[string]string) int {
	seen := map[string]bool{}
	for _, name := range at {
		seen[name] = true
	}
	return len(seen)
}

func replicaOf(t *testing.T, s *harness.Stand, browser *http.Client) string {
	t.Helper()
	res, err := browser.Get(s.URL("wiki", "/page"))
	if err != nil {
		t.Fatal(err)
	}
	if drain(res); res.StatusCode != http.StatusOK {
		t.Fatalf("got %d", res.StatusCode)
	}
	return res.Header.Get("X-Replica")
}

// A forged stickiness is none: it neither chooses an address nor breaks anything.
func TestBalanceIgnoresForgedStickiness(t *testing.T) {
	replicas := fleet(t, 2)
	s := fleetStand(t, replicas, ", balance: { method: round_robin, sticky: true }")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	seen := map[string]bool{}
	for _, forged := range []string{"replica-0", replicas[0].address, strings.Repeat("A", 64), "", "\"x\""} {
		for range 4 {
			req := request(t, http.MethodGet, s.URL("wiki", "/page"), cookie, nil)
			req.Header.Add("Cookie", "__Host-sallyport-at-wiki="+forged)
			res, err := clients(s)[0].Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if drain(res); res.StatusCode != http.StatusOK {
				t.Errorf("%q got %d", forged, res.StatusCode)
			}
			seen[res.Header.Get("X-Replica")] = true
		}
	}
	if len(seen) != len(replicas) {
		t.Errorf("forged cookies reach %v only", seen)
	}
}

// An operator lists addresses, takes one out of service without an error for anybody, and puts it back.
func TestBalanceDrainsAnAddress(t *testing.T) {
	replicas := fleet(t, 3)
	s := fleetStand(t, replicas, "")
	s.Start(t)
	load := gather(t, s, session(t, s, "wiki", "ada", "staff"), true)
	harness.Eventually(t, 2*time.Minute, "requests at every replica", func() bool {
		return !slices.ContainsFunc(replicas, func(r *replica) bool { return r.asked() < 20 })
	})
	list := upstreams(t, s)
	if len(list) != 3 || slices.ContainsFunc(list, func(u admin.Upstream) bool { return !u.Serving || u.App != "wiki" || u.Requests == 0 }) {
		t.Errorf("the list is %+v", list)
	}
	drained := replicas[1]
	if out, code := s.Sallyport(t, "upstream", "drain", "wiki", "http://"+drained.address); code != 0 {
		t.Fatalf("upstream drain: exit %d: %s", code, out)
	}
	before, asked := drained.asked(), load.asked.Load()
	harness.Eventually(t, 2*time.Minute, "more requests", func() bool { return load.asked.Load() > asked+300 })
	if n := drained.asked() - before; n > crowdSize {
		t.Errorf("%d requests reached the drained address", n)
	}
	if list := upstreams(t, s); howMany(list, func(u admin.Upstream) bool { return u.Serving }) != 2 || !strings.Contains(fmt.Sprintf("%+v", list), drained.address) {
		t.Errorf("after the drain the list is %+v", list)
	}
	if out, code := s.Sallyport(t, "upstream", "list"); code != 0 || !strings.Contains(out, "drain") {
		t.Errorf("upstream list: exit %d: %s", code, out)
	}
	if out, code := s.Sallyport(t, "upstream", "drain", "wiki", "http://"+drained.address, "--undo"); code != 0 {
		t.Fatalf("upstream drain --undo: exit %d: %s", code, out)
	}
	before = drained.asked()
	harness.Eventually(t, 2*time.Minute, "the address to be back", func() bool { return drained.asked() > before+20 })
	load.leave()
	if load.bad.Load()+load.posts.Load() > 0 {
		t.Errorf("%d requests and %d POSTs failed", load.bad.Load(), load.posts.Load())
	}
	for _, args := range [][]string{{"wiki", "http://127.0.0.1:1"}, {"nothing", "http://" + drained.address}} {
		if out, code := s.Sallyport(t, append([]string{"upstream", "drain"}, args...)...); code != 1 {
			t.Errorf("draining %v: exit %d: %s", args, code, out)
		}
	}
}

func howMany(list []admin.Upstream, is func(admin.Upstream) bool) (n int) {
	for _, u := range list {
		if is(u) {
			n++
		}
	}
	return n
}

func upstreams(t *testing.T, s *harness.Stand) (list []admin.Upstream) {
	t.Helper()
	out, code := s.Sallyport(t, "upstream", "list", "--json")
	if code != 0 {
		t.Fatalf("upstream list: exit %d: %s", code, out)
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return list
}

// Weights and backups: requests go round by weight, and the backup is for when nothing else is left.
func TestBalanceByWeightAndBackup(t *testing.T) {
	replicas := fleet(t, 3)
	s := harness.New(t, fmt.Sprintf(`
  - name: wiki
    host: wiki.corp.test
    upstreams: [{ url: "http://%s", weight: 3 }, "http://%s", { url: "http://%s", backup: true }]
    balance: { method: round_robin }
    access: { groups: [staff] }
`, replicas[0].address, replicas[1].address, replicas[2].address), "")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	base := []int{replicas[0].asked(), replicas[1].asked()}
	for range 80 {
		send(t, clients(s)[0], http.MethodGet, s.URL("wiki", "/"), cookie, nil)
	}
	if a, b, c := replicas[0].asked()-base[0], replicas[1].asked()-base[1], replicas[2].asked(); a != 60 || b != 20 || c != 0 {
		t.Errorf("80 requests went %d, %d and %d to the backup, want 60, 20, 0", a, b, c)
	}
	replicas[0].stop(true)
	replicas[1].stop(true)
	for range 10 {
		if res, _ := send(t, clients(s)[0], http.MethodGet, s.URL("wiki", "/"), cookie, nil); res.StatusCode != http.StatusOK {
			t.Errorf("with the backup left: got %d", res.StatusCode)
		}
	}
	if replicas[2].asked() == 0 {
		t.Error("the backup was not asked")
	}
}

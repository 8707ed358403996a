// Package shield inspects requests with the OWASP Core Rule Set, by Coraza. It produces findings, never verdicts: what
// follows from them is for the policy to say.
//
// An [Inspector] is a compiled rule set. It takes about 1 ms for an ordinary request and can take seconds for one that is
// made for that, and nothing can interrupt it. [Shield] therefore bounds how many are inspected at a time, in all and for
// one client, and how long anybody waits for it.
//
// The package writes nothing anywhere and logs nothing of what it saw.
package shield

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Shield shares the machine among inspections. All methods are safe for concurrent use.
type Shield struct {
	mu      sync.Mutex
	set     Config
	running int
	waiting int
	clients map[string]*client // those who have an inspection running or waiting
	turns   []*client          // those who wait, in the order of their turns
	stats   Stats              // without running and waiting
}

// client is one person, or one address.
type client struct {
	running int
	waiting []*turn
}

// turn is one request's place in the queue.
type turn struct {
	ready   chan struct{}
	granted bool
}

// New makes a Shield. What is zero in the settings is their default.
func New(cfg Config) *Shield {
	return &Shield{set: cfg.orDefaults(), clients: map[string]*client{}}
}

// Configure changes the bounds. What runs and waits goes on.
func (s *Shield) Configure(cfg Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = cfg.orDefaults()
	s.grantLocked()
}

// Stats is what a Shield is doing.
type Stats struct {
	Running   int    // inspections
	Abandoned int    // of those: nobody waits for them any more
	Waiting   int    // requests that wait for their turn
	Waited    uint64 // requests that had to, since the start
	Panics    uint64 // inspections that failed, since the start: a bug in the rule engine
}

// Stats reports what is going on.
func (s *Shield) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Running, st.Waiting = s.running, s.waiting
	return st
}

// Inspect has a request of a client looked at, when it is the client's turn. Load gives the request, in this goroutine,
// once it is: so much that waits holds no bodies. It returns when the findings are there or the time is over, with
// Timeout set; an inspection that goes on keeps its place until it ends.
func (s *Shield) Inspect(i *Inspector, client string, load func() (*Request, error)) (Findings, error) {
	return s.run(client, load, i.Inspect)
}

func (s *Shield) run(who string, load func() (*Request, error), inspect func(*Request) Findings) (Findings, error) {
	deadline := time.NewTimer(s.timeout())
	defer deadline.Stop()
	if !s.enter(who, deadline.C) {
		return Findings{Body: None, Timeout: true}, nil
	}
	q, err := load()
	if err != nil {
		s.leave(who, nil)
		return Findings{}, err
	}
	job := &job{done: make(chan Findings, 1)}
	go func() {
		found, err := guarded(inspect, q)
		if err != nil {
			s.panicked()
		}
		s.leave(who, job)
		job.done <- found
	}()
	select {
	case found := <-job.done:
		return found, nil
	case <-deadline.C:
	}
	if s.abandon(job) {
		return Findings{Body: None, Timeout: true}, nil
	}
	return <-job.done, nil // it ended at the last moment
}

// job is one inspection, which ends, or is abandoned and ends later.
type job struct {
	done         chan Findings
	ended, alone bool // guarded by Shield.mu
}

// guarded is an inspection that panics only here: what it would have found nobody knows, as after a timeout.
func guarded(inspect func(*Request) Findings, q *Request) (found Findings, err error) {
	defer func() {
		if p := recover(); p != nil {
			found, err = Findings{Body: None, Timeout: true}, fmt.Errorf("inspection panicked: %v", p)
		}
	}()
	return inspect(q), nil
}

func (s *Shield) timeout() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Timeout
}

func (s *Shield) panicked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Panics++
}

// abandon notes that nobody waits for a job any more, unless it has ended.
func (s *Shield) abandon(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.ended {
		return false
	}
	j.alone = true
	s.stats.Abandoned++
	return true
}

// leave gives a client's place back.
func (s *Shield) leave(who string, j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j != nil {
		if j.ended = true; j.alone {
			s.stats.Abandoned--
		}
	}
	s.leaveLocked(who)
}

// enter takes a place for a client, and waits for it until the time is over.
func (s *Shield) enter(who string, over <-chan time.Time) bool {
	t, entered := s.queue(who)
	if t == nil {
		return entered
	}
	select {
	case <-t.ready:
		return true
	case <-over:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.granted {
		s.leaveLocked(who)
	} else {
		s.withdrawLocked(who, t)
	}
	return false
}

// queue takes a free place, or a turn in the queue where there is room.
func (s *Shield) queue(who string) (t *turn, entered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[who]
	if c == nil {
		c = &client{}
		s.clients[who] = c
	}
	switch {
	case s.running < s.set.Concurrency && c.running < s.set.PerClient && len(c.waiting) == 0:
		s.running++
		c.running++
		return nil, true
	case s.waiting >= s.set.Waiting, len(c.waiting) >= s.set.Waiting/4:
		s.forgetLocked(who)
		return nil, false
	}
	t = &turn{ready: make(chan struct{})}
	if c.waiting = append(c.waiting, t); len(c.waiting) == 1 {
		s.turns = append(s.turns, c)
	}
	s.waiting++
	s.stats.Waited++
	return t, false
}

func (s *Shield) leaveLocked(who string) {
	s.running--
	s.clients[who].running--
	s.forgetLocked(who)
	s.grantLocked()
}

// withdrawLocked takes a turn out of the queue that came too late.
func (s *Shield) withdrawLocked(who string, t *turn) {
	c := s.clients[who]
	c.waiting = slices.DeleteFunc(c.waiting, func(other *turn) bool { return other == t })
	s.waiting--
	if len(c.waiting) == 0 {
		s.turns = slices.DeleteFunc(s.turns, func(other *client) bool { return other == c })
	}
	s.forgetLocked(who)
}

// forgetLocked drops a client of whom nothing is left.
func (s *Shield) forgetLocked(who string) {
	if c := s.clients[who]; c.running == 0 && len(c.waiting) == 0 {
		delete(s.clients, who)
	}
}

// grantLocked gives free places to those who wait, one each in turn; who has their share of places is passed over.
func (s *Shield) grantLocked() {
	for s.running < s.set.Concurrency {
		next := slices.IndexFunc(s.turns, func(c *client) bool { return c.running < s.set.PerClient })
		if next < 0 {
			return
		}
		c := s.turns[next]
		t := c.waiting[0]
		c.waiting = c.waiting[1:]
		s.turns = slices.Delete(s.turns, next, next+1)
		if len(c.waiting) > 0 {
			s.turns = append(s.turns, c)
		}
		s.waiting--
		s.running++
		c.running++
		t.granted = true
		close(t.ready)
	}
}

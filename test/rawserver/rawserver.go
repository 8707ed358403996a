// Package rawserver accepts TCP connections for the length of a test, for apps that have to say exact bytes.
package rawserver

import (
	"net"
	"sync"
	"testing"
)

// Start serves connections on a free loopback port, each in a goroutine of its own, and returns the address. When the test
// ends, what is open is closed and all of serve's calls are waited for. serve need not close its connection.
func Start(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: listener, serve: serve, open: map[net.Conn]bool{}}
	s.serving.Go(s.accept)
	t.Cleanup(s.close)
	return listener.Addr().String()
}

type server struct {
	listener net.Listener
	serve    func(net.Conn)
	serving  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // nil once closed
}

func (s *server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.admit(conn) {
			conn.Close()
			return
		}
		s.serving.Go(func() {
			defer s.leave(conn)
			s.serve(conn)
		})
	}
}

func (s *server) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[conn] = true
	return true
}

func (s *server) leave(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		conn.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.serving.Wait()
}

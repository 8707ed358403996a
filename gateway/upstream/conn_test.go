package upstream

import (
	"io"
	"net"
	"testing"
	"time"
)

// connPair is a connection to an app, and the app's end.
func connPair(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	inner, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	app, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close(); app.Close() })
	return newConn(inner), app
}

// silent reports whether silence returns, and whether it left the connection open.
func silent(c *conn) <-chan bool {
	done := make(chan bool, 1)
	go func() {
		c.silence()
		c.mu.Lock()
		defer c.mu.Unlock()
		done <- !c.closed
	}()
	return done
}

func TestConnThatIsReadAndSilentIsUsedAgain(t *testing.T) {
	c, app := connPair(t)
	done := silent(c) // waits: what was read before may not be used up
	read := make(chan string, 1)
	go func() {
		one := make([]byte, 4)
		io.ReadFull(c, one)
		read <- string(one)
	}()
	if open := <-done; !open {
		t.Error("a silent connection was closed")
	}
	io.WriteString(app, "next")
	if got := <-read; got != "next" {
		t.Errorf("the next answer reads %q", got)
	}
}

func TestConnWithBytesNobodyAskedForIsClosed(t *testing.T) {
	c, app := connPair(t)
	io.WriteString(app, "HTTP/1.1 200 OK\r\n\r\n")
	for deadline := time.Now().Add(2 * time.Minute); !c.waiting(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the bytes do not arrive")
		}
	}
	c.set(&c.reading, true) // a reader that has not woken up yet
	if open := <-silent(c); open {
		t.Error("the connection is used again")
	}
}

func TestConnThatNetHTTPClosedIsNotWaitedFor(t *testing.T) {
	c, _ := connPair(t)
	done := silent(c)
	c.Close()
	if open := <-done; open {
		t.Error("the connection counts as open")
	}
}

// A worker of dutch-master on net/http, with the standard library alone. Started by hand, it serves on port 8000.

package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	idleGrace = 5 * time.Second // how long an idle connection stays open after the order to go
	linger    = time.Second     // how long the client may take to notice that a connection ends
	margin    = 1500 * time.Millisecond
)

var (
	ordered     atomic.Bool
	connections sync.Map // net.Conn: http.ConnState
)

func handle(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "hello from Go")
}

// lastWords tells every client after the order to use its connection no more.
func lastWords(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ordered.Load() {
			w.Header().Set("Connection", "close")
		}
		next(w, r)
	}
}

// track knows which connections there are, and which of them are idle: a new one is not.
func track(conn net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		connections.Delete(conn)
	} else {
		connections.Store(conn, state)
	}
}

func count() (n int) {
	connections.Range(func(any, any) bool { n++; return true })
	return n
}

// end half-closes the connections that this is true of; the server closes them when the client does, or after a while.
func end(which func(http.ConnState) bool) {
	connections.Range(func(key, state any) bool {
		if conn, ok := key.(interface{ CloseWrite() error }); ok && which(state.(http.ConnState)) {
			conn.CloseWrite()
			key.(net.Conn).SetReadDeadline(time.Now().Add(linger))
		}
		return true
	})
}

// A listener that, once it is to end, ends when nothing waits to be accepted any more.
type listener struct {
	net.Listener
	ending atomic.Bool
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		if l.ending.Load() {
			l.Listener.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Millisecond))
		}
		conn, err := l.Listener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		} else if l.ending.Load() {
			return nil, net.ErrClosed
		}
	}
}

func main() {
	server := &http.Server{Handler: lastWords(handle), ConnState: track, ReadHeaderTimeout: time.Minute}
	if os.Getenv("DUTCH_MASTER_SOCKET") == "" {
		server.Addr = "127.0.0.1:8000"
		log.Fatal(server.ListenAndServe())
	}
	master, welcome, err := connect()
	if err != nil {
		log.Fatal(err)
	}
	names, _ := welcome["names"].([]any)
	if len(names) == 0 {
		log.Fatal("no listener is configured")
	}
	master.say("listen", "seq", 1, "name", names[0])
	answer, file, err := master.expect("listener", "disconnect")
	if err != nil {
		log.Fatal(err)
	}
	if file == nil {
		master.say("disconnect")
		return
	}
	inner, err := net.FileListener(file) // a copy; neither of them is ever shut down or made blocking
	file.Close()
	if err != nil {
		log.Fatal(err)
	}
	shared := &listener{Listener: inner}
	served := make(chan struct{})
	go func() { server.Serve(shared); close(served) }()
	master.say("listening")

	order, _, err := master.expect("disconnect")
	if err != nil { // without a master: serve on for a while, then go
		if orphan, ok := welcome.duration("orphan_timeout_ms"); ok {
			time.Sleep(orphan)
		} else {
			select {}
		}
		order = message{"reason": "stop", "timeout_ms": int64(30000)}
	}
	ordered.Store(true)
	timeout, _ := order.duration("timeout_ms")
	until := time.Now().Add(timeout - margin)
	sooner := make(chan time.Duration, 16)
	go func() { // a later order may only shorten the time
		for order, _, err := master.expect("disconnect"); err == nil; order, _, err = master.expect("disconnect") {
			timeout, _ := order.duration("timeout_ms")
			sooner <- timeout
		}
	}()
	if order.text("reason") == "stop" { // nobody else is left to accept what waits
		shared.ending.Store(true)
		inner.(*net.TCPListener).SetDeadline(time.Now())
		<-served
	}
	inner.Close() // this worker's copy alone
	master.say("close", "key", answer.text("key"))

	grace, tick := time.Now().Add(idleGrace), time.NewTicker(20*time.Millisecond)
	for count() > 0 && time.Now().Before(until) {
		select {
		case timeout := <-sooner:
			if earlier := time.Now().Add(timeout - margin); earlier.Before(until) {
				until = earlier
			}
		case now := <-tick.C:
			if now.After(grace) {
				end(func(state http.ConnState) bool { return state == http.StateIdle })
				grace = now.Add(linger)
			}
		}
	}
	if count() > 0 {
		end(func(http.ConnState) bool { return true })
		time.Sleep(margin / 3)
	}
	master.say("disconnect")
}

// The protocol of dutch-master: frames, MessagePack and descriptors, with the standard library alone.

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	depthMax   = 16
	integerMax = 1 << 53
)

type message map[string]any

// A text, or nothing.
func (m message) text(key string) string { s, _ := m[key].(string); return s }

// Milliseconds; false: not given.
func (m message) duration(key string) (time.Duration, bool) {
	n, ok := m[key].(int64)
	return time.Duration(n) * time.Millisecond, ok
}

type master struct{ conn *net.UnixConn }

var errRules = errors.New("the master breaks the rules")

// connect says hello; the environment is not for this program's own children.
func connect() (*master, message, error) {
	path, token := os.Getenv("DUTCH_MASTER_SOCKET"), os.Getenv("DUTCH_MASTER_TOKEN")
	for _, name := range []string{"SOCKET", "TOKEN", "WORKER_ID", "SLOT"} {
		os.Unsetenv("DUTCH_MASTER_" + name)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	m := &master{conn}
	m.say("hello", "protocol", 1, "token", token, "sdk", "go-example/1", "pid", os.Getpid())
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	welcome, _, err := m.expect("welcome")
	conn.SetReadDeadline(time.Time{})
	if err == nil && welcome["protocol"] != int64(1) {
		err = errors.New("the master speaks another version")
	}
	return m, welcome, err
}

// say sends an event with keys and values. A master that is gone needs no words.
func (m *master) say(event string, pairs ...any) {
	body := []byte{0x80 | byte(1+len(pairs)/2)}
	for _, value := range append([]any{"event", event}, pairs...) {
		body = pack(body, value)
	}
	m.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
}

// expect reads up to the next of these events; every other one is ignored. What breaks the rules ends the connection.
func (m *master) expect(events ...string) (message, *os.File, error) {
	for {
		got, file, err := m.hear()
		if errors.Is(err, errRules) {
			m.say("error", "code", "malformed", "message", err.Error())
		}
		if err == nil && got.text("event") == "error" {
			err = fmt.Errorf("%s: %s", got.text("code"), got.text("message"))
		}
		if err != nil {
			m.conn.Close()
			return nil, nil, err
		}
		for _, event := range events {
			if got["event"] == event {
				return got, file, nil
			}
		}
		if file != nil { // not asked for
			file.Close()
			m.say("close", "key", got.text("key"))
		}
	}
}

// hear never reads past the end of a frame: a descriptor may be behind it.
func (m *master) hear() (message, *os.File, error) {
	var head [4]byte
	if _, err := io.ReadFull(m.conn, head[:]); err != nil {
		return nil, nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 || length > 65536 {
		return nil, nil, fmt.Errorf("%w: a length of %d", errRules, length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(m.conn, body); err != nil {
		return nil, nil, err
	}
	value, rest, err := unpack(body, depthMax)
	got, isMap := value.(map[string]any)
	if err != nil || len(rest) > 0 || !isMap {
		return nil, nil, fmt.Errorf("%w: no message (%v)", errRules, err)
	}
	if err := check(got); err != nil {
		return nil, nil, err
	}
	if got["event"] != "listener" {
		return got, nil, nil
	}
	data, control := make([]byte, 1), make([]byte, syscall.CmsgSpace(4))
	n, controlled, flags, _, err := m.conn.ReadMsgUnix(data, control) // sets close-on-exec
	if err != nil {
		return nil, nil, err
	}
	parts, _ := syscall.ParseSocketControlMessage(control[:controlled])
	var fds []int
	for _, part := range parts {
		more, _ := syscall.ParseUnixRights(&part)
		fds = append(fds, more...)
	}
	if n != 1 || data[0] != 0 || len(fds) != 1 || flags&syscall.MSG_CTRUNC != 0 || got["fds"] != int64(1) {
		for _, fd := range fds {
			syscall.Close(fd)
		}
		return nil, nil, fmt.Errorf("%w: bad descriptors", errRules)
	}
	return got, os.NewFile(uintptr(fds[0]), "listener"), nil
}

// The messages for a worker: their keys, with a question mark those that may be missing.
var messages = map[string]string{
	"welcome":         "protocol worker generation slot size names? heartbeat_ms? max_requests? orphan_timeout_ms? features?",
	"listener":        "seq key name? data? address? fds",
	"error":           "seq? code message",
	"disconnect":      "reason timeout_ms",
	"return-listener": "seq key",
}

// check looks at the keys that this version knows: they are there, and have their types.
func check(m message) error {
	for _, key := range append(strings.Fields(messages[m.text("event")]), "event") {
		name, isOptional := strings.TrimSuffix(key, "?"), strings.HasSuffix(key, "?")
		ok := false
		switch value := m[name].(type) {
		case nil:
			ok = isOptional
		case string:
			ok = strings.Contains(" event key name data code message reason ", " "+name+" ")
		case []any:
			ok = name == "names" || name == "features"
		case map[string]any:
			ok = name == "address"
		case int64:
			ok = value >= 0 && strings.Contains(" protocol worker generation slot size heartbeat_ms max_requests orphan_timeout_ms seq fds timeout_ms ", " "+name+" ")
		}
		if !ok {
			return fmt.Errorf("%w: a bad %s", errRules, name)
		}
	}
	return nil
}

func pack(to []byte, value any) []byte {
	switch v := value.(type) {
	case int:
		return binary.BigEndian.AppendUint64(append(to, 0xd3), uint64(v))
	case string:
		return append(binary.BigEndian.AppendUint32(append(to, 0xdb), uint32(len(v))), v...)
	}
	panic("nothing else is sent")
}

// unpack takes what a master may send, and nothing else: no floats, no binaries, no key twice.
func unpack(from []byte, depth int) (any, []byte, error) {
	if len(from) == 0 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	t, rest := from[0], from[1:]
	number := func(width int) (n uint64, err error) {
		if len(rest) < width {
			return 0, io.ErrUnexpectedEOF
		}
		for _, b := range rest[:width] {
			n = n<<8 | uint64(b)
		}
		rest = rest[width:]
		return n, nil
	}
	switch {
	case t < 0x80 || t >= 0xe0:
		return int64(int8(t)), rest, nil
	case t == 0xc0:
		return nil, rest, nil
	case t == 0xc2 || t == 0xc3:
		return t == 0xc3, rest, nil
	case t >= 0xcc && t <= 0xd3:
		width := 1 << (t & 3)
		n, err := number(width)
		value := int64(n)
		if t >= 0xd0 {
			value = int64(n<<(64-8*width)) >> (64 - 8*width)
		}
		if err == nil && (value > integerMax || value < -integerMax || t == 0xcf && n > integerMax) {
			err = errors.New("an integer beyond 2^53")
		}
		return value, rest, err
	}
	length, err := uint64(t&0x0f), error(nil)
	switch width := map[byte]int{0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}[t]; {
	case width > 0:
		length, err = number(width)
	case t >= 0xc0:
		return nil, nil, fmt.Errorf("a type that is not allowed: %x", t)
	case t >= 0xa0:
		length = uint64(t & 0x1f)
	}
	if err != nil {
		return nil, nil, err
	}
	switch {
	case t >= 0xa0 && t < 0xc0 || t >= 0xd9 && t <= 0xdb:
		if uint64(len(rest)) < length || !utf8.Valid(rest[:length]) {
			return nil, nil, errors.New("no text")
		}
		return string(rest[:length]), rest[length:], nil
	case depth == 0:
		return nil, nil, errors.New("values that are nested too deep")
	case t >= 0x90 && t < 0xa0 || t == 0xdc || t == 0xdd:
		var list []any
		for ; length > 0; length-- {
			var item any
			if item, rest, err = unpack(rest, depth-1); err != nil {
				return nil, nil, err
			}
			list = append(list, item)
		}
		return list, rest, nil
	}
	items := map[string]any{}
	for ; length > 0; length-- {
		var key, item any
		if key, rest, err = unpack(rest, depth-1); err == nil {
			item, rest, err = unpack(rest, depth-1)
		}
		name, isText := key.(string)
		if _, twice := items[name]; err != nil || !isText || twice {
			return nil, nil, fmt.Errorf("a bad key: %v (%v)", key, err)
		}
		items[name] = item
	}
	return items, rest, nil
}

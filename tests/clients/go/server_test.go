// Package clients has the tests that use the official Go client and grpcurl against a running Packetboat.
package clients

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const startLimit = 30 * time.Second

// server is a Packetboat process of a test's own: one port and one location for data, through kills and restarts.
type server struct {
	t         *testing.T
	directory string
	host      string
	location  []string
	process   *exec.Cmd
}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, directory: t.TempDir(), host: reserveAddress(t)}
	// Makes a location for data, of the kind that is tested.
	location, err := exec.Command("../location.sh", s.directory).Output()
	check(t, err)
	s.location = strings.Fields(string(location))
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start returns once the server says that it serves.
func (s *server) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.directory, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(s.t, err)
	defer log.Close()
	s.process = exec.Command(os.Getenv("PACKETBOAT_BIN"), append([]string{"serve", "--listen", s.host}, s.location...)...)
	s.process.Stderr = log
	output, err := s.process.StdoutPipe()
	check(s.t, err)
	check(s.t, s.process.Start())
	ready := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if strings.Contains(lines.Text(), "PUBSUB_EMULATOR_HOST="+s.host) {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if ok {
			return
		}
	case <-time.After(startLimit):
	}
	s.kill()
	text, _ := os.ReadFile(filepath.Join(s.directory, "server.log"))
	s.t.Fatalf("the server did not start; its log:\n%s", text)
}

// kill sends SIGKILL: no handler of the server runs.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// reserveAddress gives an address at which only the servers of this test can listen, however often one is started. A
// socket is bound to it until the test ends. It does not listen, and keeps other tests and outgoing connections away.
func reserveAddress(t *testing.T) string {
	for {
		port := 12_000 + rand.IntN(20_000)
		reservation, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		check(t, err)
		if syscall.Bind(reservation, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) != nil {
			_ = syscall.Close(reservation)
			continue
		}
		t.Cleanup(func() { _ = syscall.Close(reservation) })
		// Only now: with it, the bind above would share the port of another test's reservation. The server sets it too.
		check(t, syscall.SetsockoptInt(reservation, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

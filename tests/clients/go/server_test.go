// Package clients has the tests that use the official Go client and grpcurl against a running Packetboat.
package clients

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const startLimit = 30 * time.Second

// server is a Packetboat process of a test's own: one port and one place for data, through kills and restarts.
type server struct {
	t         *testing.T
	directory string
	host      string
	place     []string
	process   *exec.Cmd
}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, directory: t.TempDir(), host: freeAddress()}
	// Makes a place for data, of the kind that is tested.
	place, err := exec.Command("../place.sh", s.directory).Output()
	check(t, err)
	s.place = strings.Fields(string(place))
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
	s.process = exec.Command(os.Getenv("PACKETBOAT_BIN"), append([]string{"serve", "--listen", s.host}, s.place...)...)
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

// freeAddress is below the range from which outgoing connections get their ports, so that a restart finds it free.
func freeAddress() string {
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(20_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

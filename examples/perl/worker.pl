#!/usr/bin/perl
# A worker of dutch-master in Perl with core modules alone: one loop around `select`, every optional feature. Started by hand, it serves on port 8000.
# It was written from protocol/ alone, by somebody who had seen nothing else of this project. Linux: recvmsg and sendmsg are made by `syscall`.
use strict;
use warnings;
use Encode ();
use IO::Handle;
use IO::Socket::INET;
use List::Util qw(min max);
use POSIX ();
use Socket qw(:DEFAULT inet_pton AF_INET6);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
require 'sys/syscall.ph'; # the numbers of recvmsg and sendmsg on this machine
sub now { clock_gettime(CLOCK_MONOTONIC) }

# --- MessagePack (3): values are decoded as [type, value], so that types can be checked
my %INT = (0xCC => 'C', 0xCD => 'S>', 0xCE => 'L>', 0xCF => 'Q>', 0xD0 => 'c', 0xD1 => 's>', 0xD2 => 'l>', 0xD3 => 'q>');
my %LEN = (0xD9 => [str => 'C'], 0xDA => [str => 'S>'], 0xDB => [str => 'L>'], 0xDC => [array => 'S>'], 0xDD => [array => 'L>'], 0xDE => [map => 'S>'], 0xDF => [map => 'L>']);
my %SIZE = (C => 1, c => 1, 'S>' => 2, 's>' => 2, 'L>' => 4, 'l>' => 4, 'Q>' => 8, 'q>' => 8);
sub take { my ($f, $n) = @_; die "malformed\n" if $n > length $$f; substr $$f, 0, $n, '' }
sub number { my ($f, $format) = @_; unpack $format, take($f, $SIZE{$format}) }
sub value {
    my ($f, $depth) = @_;
    my $t = ord take($f, 1);
    return [int => $t < 0x80 ? $t : $t - 256] if $t < 0x80 || $t >= 0xE0;
    return $t == 0xC0 ? ['nil'] : [bool => $t - 0xC2] if $t == 0xC0 || $t == 0xC2 || $t == 0xC3;
    if ($INT{$t}) {
        my $n = number($f, $INT{$t});
        die "malformed\n" if $n > 9007199254740992 || $n < -9007199254740992; # as integers: 2**53 would make it a comparison of floats
        return [int => $n];
    }
    my ($type, $n) = $t < 0x90 ? (map => $t & 15) : $t < 0xA0 ? (array => $t & 15) : $t < 0xC0 ? (str => $t & 31)
        : $LEN{$t} ? ($LEN{$t}[0], number($f, $LEN{$t}[1])) : die "malformed\n";
    if ($type eq 'str') { # stays bytes; only its form is checked
        my $s = take($f, $n);
        eval { Encode::decode('UTF-8', my $copy = $s, Encode::FB_CROAK); 1 } or die "malformed\n";
        return [str => $s];
    }
    die "malformed\n" if ++$depth > 16 || $n > length $$f;
    return [array => [map { value($f, $depth) } 1 .. $n]] if $type eq 'array';
    my %map;
    for (1 .. $n) {
        my $key = value($f, $depth);
        die "malformed\n" if $key->[0] ne 'str' || exists $map{$key->[1]};
        $map{$key->[1]} = value($f, $depth);
    }
    [map => \%map];
}
# The messages for a worker: "key=type" is required, "key:type" optional
my %KEYS = (
    welcome => 'protocol=u32 worker=u32 generation=u32 slot=u32 size=u32 names:strs heartbeat_ms:uint max_requests:uint orphan_timeout_ms:uint features:strs',
    listener => 'seq=uint key=str name:str data:str address:address fds=u8', error => 'seq:uint code=str message=str',
    disconnect => 'reason=str timeout_ms=uint', 'return-listener' => 'seq=uint key=str');
my $ADDRESS = 'kind=str host:str port:u16 path:str ipv6_only:bool';
my %MAX = (u8 => 255, u16 => 65535, u32 => 2**32 - 1, uint => 9007199254740992);
sub typed {
    my ($type, $v) = @_;
    my ($is, $x) = @$v;
    if ($MAX{$type}) { return $x if $is eq 'int' && $x >= 0 && $x <= $MAX{$type} }
    elsif ($type eq 'strs') { return [map { typed(str => $_) } @$x] if $is eq 'array' }
    elsif ($type eq 'address') {
        my $a = $is eq 'map' && keys_of($ADDRESS, $x);
        return $a if $a && $a->{kind} =~ /\A(?:tcp|udp|unix)\z/ && (!defined $a->{host} || inet_pton(AF_INET, $a->{host}) || inet_pton(AF_INET6, $a->{host}));
    }
    elsif ($is eq $type) { return $x }
    die "malformed\n";
}
sub keys_of {
    my ($keys, $map) = @_;
    my %m;
    for ($keys =~ /(\S+)/g) {
        my ($key, $kind, $type) = /(\w+)([=:])(\w+)/;
        my $v = $map->{$key} || ['nil'];
        if ($v->[0] ne 'nil') { $m{$key} = typed($type, $v) } elsif ($kind eq '=') { die "malformed\n" }
    }
    \%m;
}
sub decode { # a body; {} is a message to ignore; dies with the error code
    my ($body) = @_;
    my $v = value(\$body, 0);
    die "malformed\n" if $v->[0] ne 'map' || length $body || ($v->[1]{event} || ['nil'])->[0] ne 'str';
    my $event = $v->[1]{event}[1];
    $KEYS{$event} ? {event => $event, %{keys_of($KEYS{$event}, $v->[1])}} : {};
}
my %IS_INT = map { $_ => 1 } qw(protocol pid seq fds generation remaining_ms port);
sub pack_str { my $n = length $_[0]; ($n < 32 ? chr(0xA0 | $n) : $n < 256 ? pack('CC', 0xD9, $n) : pack('CS>', 0xDA, $n)) . $_[0] }
sub pack_int { my $n = $_[0]; $n < 128 ? chr $n : $n < 256 ? pack('CC', 0xCC, $n) : $n < 65536 ? pack('CS>', 0xCD, $n) : $n < 2**32 ? pack('CL>', 0xCE, $n) : pack('CQ>', 0xCF, $n) }
sub pack_map { my $out = chr(0x80 | @_ / 2); while (my ($k, $v) = splice @_, 0, 2) { $out .= pack_str($k) . pack_value($k, $v) } $out }
sub pack_value { # maps are { pairs => [key, value, ...] }, arrays hold strings
    my ($k, $v) = @_;
    ref $v eq 'HASH' ? pack_map(@{$v->{pairs}}) : ref $v ? chr(0x90 | @$v) . join('', map { pack_str($_) } @$v) : $IS_INT{$k} ? pack_int($v) : pack_str($v);
}
sub frame { pack 'N/a*', pack_map(event => @_) }

# --- Descriptors (4): struct msghdr by hand; room for four, so that too many are noticed
sub buffer { my $s = ''; vec($s, $_[0] - 1, 8) = 0; $s } # memory that is shared with no constant
sub msghdr { pack 'x16 P Q P Q x8', $_[0], 1, $_[1], length $_[1] }
sub receive { # (bytes or undef, descriptors…)
    my ($socket, $n) = @_;
    my ($data, $control) = (buffer($n), buffer(32));
    my $iov = pack 'P Q', $data, $n;
    my $header = msghdr($iov, $control);
    my $got = syscall(&SYS_recvmsg, fileno $socket, $header, 0x40000040); # MSG_CMSG_CLOEXEC | MSG_DONTWAIT
    return undef if $got < 0;
    my ($size, $flags) = unpack 'x40 Q l', $header;
    my @fds = $size < 16 ? () : do { my ($len, $level, $type) = unpack 'Q l l', $control; $level == 1 && $type == 1 ? unpack 'x16 l' . ($len - 16) / 4, $control : () };
    push @fds, -1, -1 if $flags & 8; # MSG_CTRUNC: too many, whatever they are
    return (substr($data, 0, $got), @fds);
}
sub send_fd {
    my ($socket, $fd) = @_;
    my ($zero, $control) = ("\0", pack 'Q l l l x4', 20, 1, 1, $fd);
    my $iov = pack 'P Q', $zero, 1;
    my $header = msghdr($iov, $control);
    syscall(&SYS_sendmsg, fileno $socket, $header, 0x4000); # MSG_NOSIGNAL
}
# --- The connection to the master (5, 6)
my ($path, $token) = delete @ENV{map { "DUTCH_MASTER_$_" } qw(SOCKET TOKEN WORKER_ID SLOT)};
my ($master, $in, $need, $part, $pending, @fds); # what is being read: `need` bytes of a `part` of a frame
my ($welcome, $welcomed, $listener, $key, $running, $draining, $resumes, $asked); # what is known
my ($welcome_by, $listen_by, $retry_at, $orphan_at, $heartbeat_at, $end_at); # times
my ($delay, $answered, $seq) = (0.01, 0, 0);
my %conns;
sub report { syswrite $master, frame(@_) if $welcomed }
sub expect_part { ($part, $need, $in) = (@_, '') }
sub dial {
    undef $retry_at;
    socket($master, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
    if (!connect $master, pack_sockaddr_un($path)) {
        die "$path: $!\n" if !$welcome;
        return lost();
    }
    expect_part(length => 4);
    my @resume = (resume => {pairs => [generation => $welcome->{generation}, state => $running ? 'running' : 'starting', keys => $listener ? [$key] : []]}) if $welcome;
    syswrite $master, frame('hello', protocol => 1, token => $token, sdk => 'perl-example/1', pid => $$, features => [qw(resume heartbeat max-requests)], @resume);
    $welcome_by = now() + 5;
}
sub lost { # the connection is gone (5.5)
    if ($master) { close $master; undef $master }
    die "the master is gone\n" if !$welcome;
    ($welcomed, $welcome_by, $heartbeat_at, $listen_by) = ();
    return if $draining;
    $orphan_at //= now() + $welcome->{orphan_timeout_ms} / 1000 if defined $welcome->{orphan_timeout_ms};
    if ($resumes) { $retry_at = now() + $delay * (0.5 + rand 0.5); $delay = min(0.5, 2 * $delay) }
}
sub refuse { # malformed input (3.8)
    my ($code) = @_;
    POSIX::close($_) for grep { $_ >= 0 } splice @fds;
    syswrite $master, frame('error', code => $code, message => "refused: $code");
    lost();
}
sub listen_ {
    my ($name) = @{$welcome->{names} || []};
    report('listen', seq => ++$seq, defined $name ? (name => $name) : (address => {pairs => [kind => 'tcp', host => '127.0.0.1', port => 8000]}));
    $listen_by = now() + 30;
}
sub from_master {
    for (1 .. 64) { # then others have their turn
        my ($data, @new) = receive($master, $need - length $in);
        return $!{EAGAIN} || $!{EINTR} ? () : lost() if !defined $data;
        return lost() if $data eq '';
        $in .= $data; push @fds, @new;
        next if length $in < $need;
        eval { complete(); 1 } or do { $@ =~ /\A([\w-]+)\n\z/ ? refuse($1) : die $@ };
        return if !$master;
    }
}
sub complete {
    die "bad-descriptors\n" if $part eq 'fd' ? ($in ne "\0" || @fds != 1) : @fds;
    if ($part eq 'length') {
        my $n = unpack 'N', $in;
        die "malformed\n" if !$n;
        die "too-large\n" if $n > 65536;
        return expect_part(body => $n);
    }
    $pending = decode($in) if $part eq 'body';
    if ($part eq 'body' && ($pending->{event} // '') eq 'listener') {
        die "bad-descriptors\n" if $pending->{fds} != 1;
        return expect_part(fd => 1);
    }
    expect_part(length => 4);
    handle($pending, splice @fds);
}
sub handle {
    my ($m, $fd) = @_;
    my $event = $m->{event} // '';
    if ($event eq 'welcome' && !$welcomed) {
        if ($m->{protocol} != 1) {
            syswrite $master, frame('error', code => 'bad-version', message => 'only version 1 is spoken here');
            die "version $m->{protocol} is not spoken here\n" if !$welcome;
            return lost();
        }
        ($welcomed, $delay, $resumes, $welcome_by, $orphan_at) = (1, 0.01, 1);
        return give_up() if $welcome && $welcome->{worker} != $m->{worker};
        $welcome = $m;
        if ($listener) { $heartbeat_at = now() } else { listen_() }
    } elsif ($event eq 'listener') {
        undef $listen_by if $m->{seq} == $seq;
        if ($m->{seq} != $seq || $listener || $draining) { POSIX::close($fd); return report('close', key => $m->{key}) } # not asked for
        open $listener, '+<&=', $fd or die "a listener that cannot be used: $!\n";
        die "not a stream socket\n" if unpack('i', getsockopt $listener, SOL_SOCKET, SO_TYPE) != SOCK_STREAM;
        ($key, $running, $heartbeat_at) = ($m->{key}, 1, now());
        report('listening');
    } elsif ($event eq 'error') {
        if (defined $m->{seq}) {
            die "listen: $m->{code}: $m->{message}\n" if $m->{code} !~ /\A(?:stopping|unexpected)\z/; # of these two the order follows
        }
        elsif (!$welcome) { die "$m->{code}: $m->{message}\n" }
        elsif (!$welcomed && $m->{code} =~ /\A(?:resume-refused|bad-token)\z/) { give_up() }
        else { $resumes = 0 if $m->{code} eq 'superseded'; lost() }
    } elsif ($event eq 'disconnect' && $welcomed) { drain($m->{reason}, $m->{timeout_ms})
    } elsif ($event eq 'return-listener') {
        return report('error', seq => $m->{seq}, code => 'EBADF', message => 'not held') if !$listener || $m->{key} ne $key;
        report('listener', seq => $m->{seq}, key => $key, fds => 1);
        send_fd($master, fileno $listener);
    }
}
sub give_up { $welcomed = 0; $resumes = 0; lost(); drain('stop', 30000) }
sub drain { # the order to go (12); a later one can only shorten the time
    my ($reason, $ms) = @_;
    my $end = now() + max(0, $ms / 1000 - 1.5); # 1 s to linger, and some to spare
    $end_at = min($end, $end_at // $end);
    return if $draining;
    $draining = now();
    ($retry_at, $orphan_at, $heartbeat_at, $listen_by) = ();
    lost() if $master && !$welcomed; # it was only coming back
    return if !$listener;
    if ($reason eq 'stop') { 1 while accept_one() } # nobody else is left to accept these
    close $listener; # this worker's copy alone: never shutdown
    undef $listener;
    report('close', key => $key);
}

# --- HTTP: a connection has `in` and `out`, whether a response was its `last`, and `linger` when it is ending
sub accept_one {
    my $fh;
    accept $fh, $listener or return $!{ECONNABORTED} || $!{EINTR}; # another worker was faster
    $fh->blocking(0);
    $conns{fileno $fh} = {fh => $fh, in => '', out => '', served => 0, since => now()};
}
sub drop { my ($c) = @_; delete $conns{fileno $c->{fh}}; close $c->{fh} }
sub end { my ($c) = @_; shutdown $c->{fh}, 1; $c->{linger} //= now() + 1 } # half-close, then read until it closes, too
sub readable {
    my ($c) = @_;
    my $n = sysread $c->{fh}, my $data, 65536;
    return $!{EAGAIN} || $!{EINTR} ? () : drop($c) if !defined $n;
    return $c->{linger} || $c->{out} eq '' ? drop($c) : do { $c->{last} = $c->{eof} = 1 } if !$n;
    return if $c->{linger} || $c->{last};
    $c->{in} .= $data;
    requests($c);
}
sub requests {
    my ($c) = @_;
    while (!$c->{last} && $c->{in} =~ /\A(.*?\r\n)\r\n/s) {
        my ($head, $size) = ($1, $+[0]);
        my ($method, $version) = $head =~ m{\A([A-Z]+) \S+ HTTP/1\.([01])\r\n};
        my $length = $head =~ /^content-length:[ \t]*(\d{1,7})[ \t]*\r$/mi ? $1 : 0;
        last if length $c->{in} < $size + $length;
        my $status = !$method ? '400 Bad Request' : $head =~ /^transfer-encoding:/mi ? '501 Not Implemented' : '200 OK';
        my $body = $length ? substr $c->{in}, $size, $length : "hello from perl\n";
        substr $c->{in}, 0, $size + $length, '';
        $c->{last} = $draining || $status !~ /^200/ || !$version || $head =~ /^connection:.*\bclose\b/mi;
        $c->{out} .= sprintf("HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n", $status, length $body, $c->{last} ? 'close' : 'keep-alive')
            . (($method // '') eq 'HEAD' ? '' : $body);
        $c->{served}++;
        report('request-restart', reason => 'max-requests') if ++$answered >= ($welcome->{max_requests} // 9**15) && !$draining && !$asked++;
    }
    if (!$c->{last} && length $c->{in} > 2**24) {
        $c->{last} = 1;
        $c->{out} .= "HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    }
    writable($c);
}
sub writable {
    my ($c) = @_;
    if ($c->{out} ne '') {
        my $n = syswrite $c->{fh}, $c->{out};
        return $!{EAGAIN} || $!{EINTR} ? () : drop($c) if !defined $n;
        substr $c->{out}, 0, $n, '';
        $c->{since} = now();
    }
    end($c) if $c->{last} && $c->{out} eq '';
}

# --- One loop for everything
$SIG{PIPE} = 'IGNORE';
pipe my $woken, my $wake or die $!;
$wake->blocking(0);
$SIG{TERM} = sub { syswrite $wake, 't' };
if (defined $path) { dial() } else { # standalone (2.2)
    $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8000', Listen => 511, ReuseAddr => 1, Blocking => 0) or die "127.0.0.1:8000: $!\n";
    ($welcome, $key, $running) = ({}, '', 1);
}
while (1) {
    my $now = now();
    die "no welcome within 5 s\n" if $welcome_by && $now >= $welcome_by && !$welcome;
    die "no answer to listen within 30 s\n" if $listen_by && $now >= $listen_by;
    lost() if $welcome_by && $now >= $welcome_by;
    drain('stop', 30000) if $orphan_at && $now >= $orphan_at;
    dial() if $retry_at && $now >= $retry_at;
    if ($heartbeat_at && $now >= $heartbeat_at) {
        undef $heartbeat_at;
        if ($welcome->{heartbeat_ms}) { report('heartbeat'); $heartbeat_at = $now + $welcome->{heartbeat_ms} / 2000 }
    }
    my @times = grep { $_ } $welcome_by, $listen_by, $orphan_at, $retry_at, $heartbeat_at;
    for my $c (values %conns) { # when does each end?
        my $at = $c->{linger};
        if (!$at && $draining) { # idle ones have 5 s more, busy ones all the time
            my $idle = $c->{served} && $c->{in} eq '' && $c->{out} eq '';
            $at = $idle ? min($end_at, 5 + max($draining, $c->{since})) : $end_at;
        }
        if (defined $at && $now >= $at) {
            if ($c->{linger}) { drop($c); next }
            end($c);
            $at = $c->{linger};
        }
        push @times, $at if defined $at;
    }
    last if $draining && !%conns;
    my ($r, $w) = ('', '');
    vec($r, fileno $_, 1) = 1 for grep { $_ } $woken, $master, ($listener && keys %conns < 900 ? $listener : ()), map { $_->{fh} } grep { !$_->{eof} } values %conns;
    vec($w, fileno $_->{fh}, 1) = 1 for grep { $_->{out} ne '' && !$_->{linger} } values %conns;
    next if select($r, $w, undef, @times ? max(0, min(@times) - now()) : undef) < 1;
    for my $c (values %conns) {
        my $fd = fileno $c->{fh};
        writable($c) if vec $w, $fd, 1;
        readable($c) if $conns{$fd} && vec $r, $fd, 1;
    }
    accept_one() if $listener && vec $r, fileno $listener, 1;
    from_master() if $master && vec $r, fileno $master, 1;
    if (vec $r, fileno $woken, 1) { # SIGTERM
        sysread $woken, my $t, 64;
        if ($draining) { $end_at = 0 } else { report('leaving'); drain('leaving', 27000) }
    }
}
report('disconnect');
exit 0;

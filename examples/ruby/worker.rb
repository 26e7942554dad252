#!/usr/bin/env ruby
# frozen_string_literal: true

# A worker of dutch-master with Ruby's standard library alone. Started by hand, it serves on port 8000.

require 'socket'
require 'stringio'
require 'timeout'

IDLE_GRACE = 5 # seconds that an idle connection stays open after the order to go
MARGIN = 1.5   # seconds before the announced end at which what remains is ended

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

class BrokenRules < StandardError; end

# MessagePack, as much of it as the protocol has: it is strict where the protocol is.
module Pack
  module_function

  def pack(value)
    case value
    when Integer then [0xd3, value].pack('Cq>')
    when String then [0xdb, value.bytesize].pack('CN') + value.b
    when Hash then [0xdf, value.size].pack('CN') + value.map { |k, v| pack(k) + pack(v) }.join
    end
  end

  def take(io, count)
    data = count.zero? ? '' : io.read(count)
    raise BrokenRules, 'a value that is cut off' if data.nil? || data.bytesize < count

    data
  end

  def number(io, width) = take(io, width).unpack1({ 1 => 'C', 2 => 'n', 4 => 'N', 8 => 'Q>' }[width])

  def unpack(io, depth = 16)
    case type = take(io, 1).ord
    when 0x00..0x7f then type
    when 0xe0..0xff then type - 256
    when 0xc0 then nil
    when 0xc2, 0xc3 then type == 0xc3
    when 0xcc..0xcf then within_range(number(io, 1 << (type & 3)))
    when 0xd0..0xd3 then within_range(take(io, 1 << (type & 3)).unpack1(%w[c s> l> q>][type & 3]))
    when 0x80..0x8f then map(io, type & 15, depth)
    when 0xde, 0xdf then map(io, number(io, type == 0xde ? 2 : 4), depth)
    when 0x90..0x9f then list(io, type & 15, depth)
    when 0xdc, 0xdd then list(io, number(io, type == 0xdc ? 2 : 4), depth)
    when 0xa0..0xbf then text(io, type & 31)
    when 0xd9..0xdb then text(io, number(io, 1 << (type - 0xd9)))
    else raise BrokenRules, 'a type that is not allowed'
    end
  end

  def text(io, length)
    text = String.new(take(io, length), encoding: 'UTF-8')
    text.valid_encoding? ? text : raise(BrokenRules, 'a string that is not UTF-8')
  end

  def within_range(number)
    number.abs > 2**53 ? raise(BrokenRules, 'an integer beyond 2^53') : number
  end

  def list(io, size, depth)
    raise BrokenRules, 'values that are nested too deep' if depth.zero?

    size.times.map { unpack(io, depth - 1) }
  end

  def map(io, size, depth)
    raise BrokenRules, 'values that are nested too deep' if depth.zero?

    size.times.with_object({}) do |_, map|
      key = unpack(io, depth - 1)
      raise BrokenRules, 'a key that stands twice, or is no string' if map.key?(key) || !key.is_a?(String)

      map[key] = unpack(io, depth - 1)
    end
  end
end

# The messages for a worker: their keys, with a question mark those that may be missing, and the types of those that are no integers of 0 or more.
MESSAGES = {
  'welcome' => %w[protocol worker generation slot size names? heartbeat_ms? max_requests? orphan_timeout_ms? features?],
  'listener' => %w[seq key name? data? address? fds], 'error' => %w[seq? code message], 'disconnect' => %w[reason timeout_ms], 'return-listener' => %w[seq key]
}.freeze
TYPES = { 'names' => Array, 'features' => Array, 'address' => Hash, **%w[event key name data code message reason].to_h { |key| [key, String] } }.freeze

def check(message)
  ['event', *MESSAGES[message['event']]].each do |key|
    name = key.delete_suffix('?')
    value = message[name]
    next if value.nil? && name != key

    wanted = TYPES.fetch(name, Integer)
    raise BrokenRules, "a bad #{name}" unless value.is_a?(wanted) && (wanted != Integer || value >= 0)
  end
end

# The connection to the master. It is read exactly, never beyond a frame: a descriptor may be behind it.
class Master
  attr_reader :welcome

  def initialize
    path, token, = %w[SOCKET TOKEN WORKER_ID SLOT].map { |name| ENV.delete("DUTCH_MASTER_#{name}") }
    @socket = UNIXSocket.new(path)
    say('hello', protocol: 1, token: token, sdk: 'ruby-example/1', pid: Process.pid)
    @welcome, = Timeout.timeout(5) { expect('welcome') }
    abort 'the master speaks another version' unless @welcome['protocol'] == 1
  end

  def say(event, **keys)
    body = Pack.pack({ 'event' => event }.merge(keys.transform_keys(&:to_s)))
    @socket.write([body.bytesize].pack('N') + body)
  rescue SystemCallError, IOError
    nil # a master that is gone needs no words
  end

  # The next message of these; every other one is ignored. What breaks the rules ends the connection.
  def expect(*events)
    loop do
      message, listener = hear
      raise EOFError, "#{message['code']}: #{message['message']}" if message['event'] == 'error'
      return [message, listener] if events.include?(message['event'])

      if listener # not asked for
        listener.close
        say('close', key: message['key'])
      end
    end
  rescue BrokenRules, TypeError => e
    say('error', code: 'malformed', message: e.message)
    @socket.close
    raise EOFError, 'the master breaks the rules'
  end

  private

  def exactly(count)
    data = String.new
    data << @socket.sysread(count - data.bytesize) while data.bytesize < count
    data
  end

  def hear
    length = exactly(4).unpack1('N')
    raise BrokenRules, 'no length of a frame' unless (1..65_536).cover?(length)

    body = StringIO.new(exactly(length))
    message = Pack.unpack(body)
    raise BrokenRules, 'no message' unless message.is_a?(Hash) && body.eof?

    check(message)
    return [message, nil] unless message['event'] == 'listener'

    # recv_io reads one byte, sets close-on-exec, and raises when no descriptor comes with it.
    byte, _, _, control = @socket.recvmsg(1, 0, nil, scm_rights: true)
    ios = control ? control.unix_rights : []
    raise BrokenRules, 'bad descriptors' unless byte == "\0" && ios.size == 1 && message['fds'] == 1

    [message, TCPServer.for_fd(ios[0].tap { |io| io.autoclose = false }.fileno).tap { |server| server.close_on_exec = true }]
  end
end

# HTTP/1.1, one thread for each connection.
class Server
  attr_accessor :order # { came:, ends: }

  def initialize(listener)
    @listener = listener
    @connections = Queue.new
    @threads = []
  end

  # Accepts until it is told to stop; another worker may be faster.
  def accept_until(stop)
    until @stopped ||= stop.call
      next unless @listener.wait_readable(0.05)

      accept
    end
  end

  def accept_waiting
    nil while @listener.wait_readable(0) && accept
  end

  def accept
    connection = @listener.accept_nonblock(exception: false)
    return false if connection == :wait_readable

    @threads.select!(&:alive?)
    @threads << Thread.new { serve(connection) }
  end

  def busy? = @threads.any?(&:alive?)

  private

  def serve(connection)
    head = String.new
    is_used = false
    while comes?(connection, is_used ? IDLE_GRACE : nil)
      is_used = true
      next unless read_head(connection, head)

      is_last = !order.nil? || head.match?(/^connection: *close/i)
      body = "hello from Ruby\n"
      connection.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: #{is_last ? 'close' : 'keep-alive'}\r\n\r\n#{body}")
      break if is_last

      head.clear
    end
    finish(connection)
  rescue SystemCallError, IOError
    nil # one bad connection harms no other
  ensure
    connection.close
  end

  # Waits for bytes; false: an idle connection has waited long enough, or the time is over.
  def comes?(connection, grace)
    until connection.wait_readable(0.05)
      next unless order
      return false if now > order[:ends] || grace && now > order[:came] + grace
    end
    true
  end

  # Reads up to the end of a request's head, byte by byte, so that nothing behind it is taken; true: there it is.
  def read_head(connection, head)
    until head.end_with?("\r\n\r\n")
      return false unless comes?(connection, nil)

      head << connection.sysread(1)
    end
    true
  end

  # Half-close, then read what is still on its way: closing at once could reset the connection.
  def finish(connection)
    connection.close_write
    ends = now + 1
    connection.sysread(4096) while now < ends && connection.wait_readable(ends - now)
  end
end

def serve_for_a_master
  master = Master.new
  master.say('listen', seq: 1, name: master.welcome['names'][0])
  answer, listener = master.expect('listener', 'disconnect')
  return master.say('disconnect') unless listener

  server = Server.new(listener)
  stop = false
  accepting = Thread.new { server.accept_until(-> { stop }) }
  master.say('listening')
  begin
    order, = master.expect('disconnect')
  rescue EOFError, SystemCallError, IOError # without a master: serve on for a while, then go
    orphan = master.welcome['orphan_timeout_ms']
    orphan ? sleep(orphan / 1000.0) : sleep
    order = { 'reason' => 'stop', 'timeout_ms' => 30_000 }
  end
  server.order = { came: now, ends: now + order['timeout_ms'] / 1000.0 - MARGIN }
  Thread.new { hear_on(master, server) }
  stop = true
  accepting.join
  server.accept_waiting if order['reason'] == 'stop' # nobody else is left to accept these
  listener.close # this worker's copy alone: never shutdown
  master.say('close', key: answer['key'])
  sleep 0.02 while server.busy? && now < server.order[:ends] + 1
  master.say('disconnect')
end

# A later order may only shorten the time.
def hear_on(master, server)
  loop do
    order, = master.expect('disconnect')
    server.order[:ends] = [server.order[:ends], now + order['timeout_ms'] / 1000.0 - MARGIN].min
  end
rescue EOFError, SystemCallError, IOError
  nil # after an order its end changes nothing
end

if ENV['DUTCH_MASTER_SOCKET']
  Thread.report_on_exception = false
  serve_for_a_master
else
  Server.new(TCPServer.new('127.0.0.1', 8000)).accept_until(-> { false })
end

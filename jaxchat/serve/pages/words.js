// What the page says, in English and Chinese.
import { chinese, spoken } from "./language.js";

export { chinese } from "./language.js";

const ENGLISH = {
  ask: "Ask a question", message: "Message", send: "Send", stop: "Stop", you: "You", conversations: "Conversations",
  newOne: "New conversation", untitled: "New conversation", rename: "Rename", remove: "Delete", removed: "Deleted",
  undo: "Undo", exportOne: "Export this conversation", exportAll: "Export all", menu: "Conversations", close: "Close",
  settings: "Settings", model: "Model", secondModel: "Second model", beside: "Two models side by side",
  alone: "One model", dark: "Dark colours", light: "Light colours", language: "中文", languageLabel: "切换到中文",
  system: "System prompt", systemHint: "Who the assistant is, and what it is to heed", sampling: "Sampling",
  own: "model's own", reset: "Back to the model's own", temperature: "Temperature", max_tokens: "Maximum length",
  top_p: "Top-p", top_k: "Top-k", min_p: "Min-p", repetition_penalty: "Repetition penalty", seed: "Seed",
  random: "random", regenerate: "Answer again", edit: "Edit", save: "Send", cancel: "Cancel", copy: "Copy",
  copied: "Copied", good: "Good answer", bad: "Bad answer", earlier: "Earlier version", later: "Later version",
  cutShort: "Cut at the maximum length", stopped: "Stopped", filtered: "Ended by the server's guard",
  empty: "The model said nothing.", greeting: "What shall we talk about?", retry: "Try again",
  key: "API key", keyHint: "This server wants a key. It is sent to this server alone.", keyKeep: "Keep it in this browser",
  keySave: "Use it", forgotten: "The key is forgotten", forget: "Forget the API key",
  unreachable: "The server cannot be reached.", noChat: "None of the models that are served knows a chat template.",
  noFeedback: "This server keeps no feedback; it is started with --feedback FILE to.",
  full: "The browser has no room to keep this; export and delete old conversations.", tokens: "tokens",
  tokensPerSecond: "tokens/s", hint: "Enter sends, Shift+Enter is a new line, Esc stops",
  skip: "To the message field", answers: "Conversation", failed: "Failed", search: "Search conversations",
  nothingFound: "Nothing found", toEnd: "To the end",
};

const CHINESE = {
  ask: "输入您的问题", message: "消息", send: "发送", stop: "停止", you: "您", conversations: "对话",
  newOne: "新对话", untitled: "新对话", rename: "重命名", remove: "删除", removed: "已删除",
  undo: "撤销", exportOne: "导出此对话", exportAll: "全部导出", menu: "对话列表", close: "关闭",
  settings: "设置", model: "模型", secondModel: "第二个模型", beside: "两个模型并排",
  alone: "单个模型", dark: "深色", light: "浅色", language: "English", languageLabel: "Switch to English",
  system: "系统提示", systemHint: "助手是谁，需要遵守什么", sampling: "采样",
  own: "模型默认", reset: "恢复模型默认", temperature: "温度", max_tokens: "最大长度",
  top_p: "Top-p", top_k: "Top-k", min_p: "Min-p", repetition_penalty: "重复惩罚", seed: "随机种子",
  random: "随机", regenerate: "重新回答", edit: "编辑", save: "发送", cancel: "取消", copy: "复制",
  copied: "已复制", good: "回答得好", bad: "回答得不好", earlier: "上一版本", later: "下一版本",
  cutShort: "已到最大长度", stopped: "已停止", filtered: "被服务器的过滤规则终止",
  empty: "模型没有回答。", greeting: "想聊些什么？", retry: "重试",
  key: "API 密钥", keyHint: "此服务器需要密钥。密钥只发送给此服务器。", keyKeep: "保存在此浏览器中",
  keySave: "使用", forgotten: "密钥已清除", forget: "清除 API 密钥",
  unreachable: "无法连接服务器。", noChat: "所提供的模型都没有聊天模板。",
  noFeedback: "此服务器不保存反馈；启动时需加 --feedback FILE。",
  full: "浏览器空间不足，无法保存；请导出并删除旧对话。", tokens: "个 token",
  tokensPerSecond: "token/秒", hint: "Enter 发送，Shift+Enter 换行，Esc 停止",
  skip: "跳到输入框", answers: "对话内容", failed: "失败", search: "搜索对话",
  nothingFound: "没有找到", toEnd: "到末尾",
};

export const words = spoken(ENGLISH, CHINESE);

// The server gives its reasons in English; the common ones, by their code.
const REASONS = {
  overloaded: "服务器正忙，请稍后再试。", shutting_down: "服务器正在停止，请稍后再试。",
  rate_limit_exceeded: "请求太频繁，请稍后再试。", content_filter: "服务器的过滤规则不允许此内容。",
  context_length_exceeded: "对话太长，模型读不下。请编辑缩短问题，或开始新对话。",
  engine_failed: "模型处理此请求时出错。", internal_error: "服务器处理此请求时出错。", invalid_api_key: "密钥不对。",
};

export const reason = (message, code) => (chinese() && REASONS[code]) || message;
